"""MLflow's words in ours, and ours in MLflow's."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.connect.mlflow.mapping import (
    copied_ref,
    files_of,
    logged_id,
    millis_of,
    shown_address,
    state_of,
    storable,
    time_of,
    to_experiment,
    to_run,
    to_version,
    value_of,
)
from loopwright.connect.mlflow.model import ORIGIN_TAG, SourceExperiment, SourceRun, SourceVersion
from loopwright.connect.mlflow.outgoing import carriable, creating, ending, value_text, why_not
from loopwright.models import Stage
from loopwright.track import Run, RunStatus

RUN = "0123456789abcdef0123456789abcdef"
MODEL = f"m-{RUN}"


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_survives_the_way_there_and_back(millis: int) -> None:
    assert millis_of(time_of(millis)) == millis


def test_a_time_beyond_the_calendar_becomes_its_end() -> None:
    assert time_of(1 << 62).year == 9999


@given(st.floats())
def test_a_value_survives_the_way_there_and_back(value: float) -> None:
    stored = math.copysign(1.7976931348623157e308, value) if math.isinf(value) else value
    for form in (value_text(value), stored):
        back = value_of(form, math.isnan(value))
        largest = abs(value) == 1.7976931348623157e308  # cannot be told from an infinity in a store
        assert math.isnan(back) if math.isnan(value) else back == (math.copysign(math.inf, value) if largest else value)


def test_nan_is_said_beside_the_value_in_a_store() -> None:
    assert math.isnan(value_of(0.0, True))
    assert math.isnan(value_of(None))


def test_the_default_experiment_is_the_same_on_both_sides() -> None:
    made = to_experiment(SourceExperiment("0", "Default", created_ms=5, updated_ms=1), "mlflow x")
    assert (made.name, made.tags[ORIGIN_TAG], made.updated_at) == ("default", "mlflow x experiment 0", made.created_at)


@pytest.mark.parametrize(
    ("said", "status", "has_end"),
    [
        ("FINISHED", RunStatus.FINISHED, True),
        ("SCHEDULED", RunStatus.RUNNING, False),
        ("RUNNING", RunStatus.RUNNING, False),
        ("", RunStatus.RUNNING, False),
        ("KILLED", RunStatus.KILLED, True),
    ],
)
def test_a_run_has_an_end_only_if_it_has_ended(said: str, status: RunStatus, has_end: bool) -> None:
    made = to_run(SourceRun(id=RUN, experiment_id="1", status=said, start_ms=9), "e", "mlflow x")
    assert (made.status, made.ended_at is not None) == (status, has_end)


def test_a_run_keeps_its_name_parent_and_where_it_came_from() -> None:
    source = SourceRun(id=RUN, experiment_id="1", tags={"mlflow.runName": "a\tb", "mlflow.parentRunId": "p"})
    made = to_run(source, "e", "mlflow x")
    assert (made.name, made.parent, made.tags[ORIGIN_TAG]) == ("a b", "p", "mlflow x")
    assert to_run(SourceRun(id=RUN, experiment_id="1"), "e", "o").name == f"run-{RUN[-6:]}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"runs:/{RUN}/a/model", (f"run:{RUN}", "a/model")),
        (f"models:/{MODEL}", (f"model:{MODEL}", "")),
        (f"mlflow-artifacts:/1/{RUN}/artifacts/model", (f"run:{RUN}", "model")),
        (f"mlflow-artifacts:/1/{RUN}/artifacts", (f"run:{RUN}", "")),
        (f"file:///data/1/models/{MODEL}/artifacts/", (f"model:{MODEL}", "")),
        (f"/data/1/models/{MODEL}/artifacts/sub", (f"model:{MODEL}", "sub")),
        (f"mlflow-artifacts:/1/{RUN}/artifacts-of-another", ("", "")),
        (f"mlflow-artifacts:/1/{RUN}/artifacts/../../x", ("", "")),
        ("s3://bucket/elsewhere", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_versions_files_are_found_among_what_was_carried(source: str, expected: tuple[str, str]) -> None:
    version = SourceVersion(version=1, source=source, run_id=RUN)
    places = {MODEL: f"/data/1/models/{MODEL}/artifacts"}
    assert files_of(version, f"mlflow-artifacts:/1/{RUN}/artifacts", places) == expected


def test_a_source_names_a_logged_model_or_a_version_or_neither() -> None:
    assert logged_id(f"models:/{MODEL}") == MODEL
    assert (logged_id("models:/net/3"), copied_ref("models:/net/3")) == ("", "model:net@3")
    assert copied_ref("models:/net@champion") == ""


def test_a_version_keeps_its_number_and_stage() -> None:
    made = to_version(SourceVersion(version=7, stage="Production", source=f"models:/{MODEL}"), "", "")
    assert (made.version, made.stage, made.model_id) == (7, Stage.PRODUCTION, MODEL)


def test_what_cannot_be_stored_is_told_apart() -> None:
    good, bad = storable({"a": "x", "b": "x" * 10_001, "c": "\x00", "k" * 251: "", "d\n": ""})
    assert good == {"a": "x"}
    assert len(bad) == 4


def test_a_state_changes_with_every_part_of_a_run() -> None:
    run = SourceRun(id=RUN, experiment_id="1", latest=[("a", math.nan, 1, 2)], points=1)
    others = [
        SourceRun(id=RUN, experiment_id="1", latest=[("a", math.nan, 1, 2)], points=2),
        SourceRun(id=RUN, experiment_id="1", latest=[("a", 0.0, 1, 2)], points=1),
        SourceRun(id=RUN, experiment_id="1", latest=[("a", math.nan, 1, 2)], points=1, tags={"x": "y"}),
        SourceRun(id=RUN, experiment_id="1", latest=[("a", math.nan, 1, 2)], points=1, deleted=True),
    ]
    same = SourceRun(id=RUN, experiment_id="1", latest=[("a", float("nan"), 1, 2)], points=1)
    assert state_of(same) == state_of(run)
    assert len({state_of(item) for item in [run, *others]}) == 5


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////home/ann/mlflow.db", "sqlite:///mlflow.db"),
        ("postgresql+psycopg2://ann:secret@db.example:5432/ml", "postgresql://db.example:5432/ml"),
        ("https://ann:secret@ml.example/base/?token=x", "https://ml.example/base"),
    ],
)
def test_an_origin_holds_no_secret_and_no_folder(uri: str, shown: str) -> None:
    assert shown_address(uri) == shown


@pytest.mark.parametrize("key", ["a", "val/loss", "é x", "a:b.c-d"])
def test_keys_that_mlflow_takes(key: str) -> None:
    assert why_not(key) == ""


@pytest.mark.parametrize("key", ["", "a=b", "../x", "/x", "x/", "a//b", "k" * 251, "a\nb"])
def test_keys_that_mlflow_refuses_are_not_sent(key: str) -> None:
    assert why_not(key)


def test_marks_of_an_import_stay_here() -> None:
    assert carriable({ORIGIN_TAG: "x", "ok": "y", "long": "z" * 11}, 10)[0] == {"ok": "y"}


def test_a_run_goes_out_with_our_id_as_a_tag_and_ends_when_it_did() -> None:
    at = datetime(2024, 1, 2, 3, 4, 5, 678_999, UTC)
    run = Run(id=RUN, experiment="e", name="n", status=RunStatus.FAILED, started_at=at, ended_at=at, actor="user:ann")
    made = creating(run, "12")
    assert {"key": "loopwright.run_id", "value": RUN} in made["tags"]
    assert made["start_time"] == ending(run, "x")["end_time"] == 1_704_164_645_678
    assert ending(run, "x")["status"] == "FAILED"
