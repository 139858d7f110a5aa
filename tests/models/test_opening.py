"""Models that come as files are opened without running what they hold; pickles only in a confined process."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from tests.models.conftest import Trips, small_lightgbm

from loopwright.core import Forbidden, Invalid, NotFound
from loopwright.models import Task, build_bundle, predict_frame


class Stranger(LogisticRegression):
    """A type of nobody's library."""


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return np.savetxt, (str(self.path), [1.0])  # a function that a scan finds suspicious, and no more


class Bomb(Trap):
    """One that a scan knows."""

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sprung")


@pytest.fixture(scope="module")
def booster(trips: Trips) -> lightgbm.Booster:
    rows = trips.numbers.cast(pl.Float64)
    params = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(rows.to_numpy(), trips.late, feature_name=rows.columns)
    return lightgbm.train(params, data, 10)


@pytest.mark.slow
def test_a_file_of_lightgbm_becomes_a_graph(booster: lightgbm.Booster, trips: Trips, tmp_path: Path) -> None:
    booster.save_model(tmp_path / "model.txt")
    made = build_bundle(tmp_path / "model.txt", trips.numbers)
    assert made.manifest.format == "onnx/lightgbm"
    assert made.manifest.parity.passed
    given = booster.predict(trips.numbers.cast(pl.Float64).to_numpy())
    np.testing.assert_allclose(predict_frame(made.predictor(), trips.numbers)["probability"], given, atol=1e-5)


@pytest.mark.parametrize(("objective", "task"), [("regression", Task.REGRESSION), ("multiclass", Task.MULTICLASS)])
def test_a_booster_answers_what_its_objective_says(objective: str, task: Task, trips: Trips) -> None:
    rows = trips.numbers.cast(pl.Float64)
    params = {"objective": objective, "num_class": 3 if task is Task.MULTICLASS else 1, "verbose": -1, "num_threads": 1}
    goal = trips.rows["hour"].to_numpy() % 3
    made = build_bundle(lightgbm.train(params, lightgbm.Dataset(rows.to_numpy(), goal), 10), rows)
    assert made.manifest.task is task
    assert made.manifest.parity.max_abs < 1e-4


def test_columns_in_another_order_than_the_boosters_are_refused(booster: lightgbm.Booster, trips: Trips) -> None:
    with pytest.raises(Invalid, match="another order"):
        build_bundle(booster, trips.numbers.select("wind", "distance", "hour", "holiday", "value"))


@pytest.mark.parametrize(
    "kind", ["what skops trusts", pytest.param("what a confined process opens", marks=pytest.mark.slow)]
)
def test_a_skops_file_becomes_a_graph(kind: str, fitted: Any, trips: Trips, tmp_path: Path) -> None:
    linear = LogisticRegression().fit(trips.numbers.fill_null(0).to_numpy(), trips.late)
    model, rows = (linear, trips.numbers.fill_null(0)) if "trusts" in kind else (fitted, trips.rows)
    skops.io.dump(model, tmp_path / "model.skops")
    made = build_bundle(tmp_path / "model.skops", rows)
    assert made.manifest.format == "onnx/sklearn"
    assert made.manifest.parity.rows >= rows.height
    given = rows.to_numpy() if model is linear else rows
    np.testing.assert_allclose(
        predict_frame(made.predictor(), rows)["probability"], model.predict_proba(given)[:, 1], atol=1e-5
    )


def test_a_skops_file_with_types_of_a_stranger_is_refused_by_name(tmp_path: Path, trips: Trips) -> None:
    skops.io.dump(Stranger(), tmp_path / "model.skops")
    with pytest.raises(Invalid, match="Stranger"):
        build_bundle(tmp_path / "model.skops", trips.rows)


@pytest.mark.slow
def test_a_pickle_is_refused_unless_asked_for_and_then_never_loaded_here(trips: Trips, tmp_path: Path) -> None:
    path, mark = tmp_path / "model.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(Invalid, match="allow_pickle=True"):
        build_bundle(path, trips.numbers)
    with pytest.raises(Invalid, match="does not become a graph"):
        build_bundle(path, trips.numbers, allow_pickle=True)
    with pytest.raises(Exception, match="PermissionError"):
        build_bundle(path, trips.numbers, allow_pickle=True, allow_code=True)
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(Forbidden, match=r"pathlib\.Path\.write_text"):
        build_bundle(path, trips.numbers, allow_pickle=True)
    assert not mark.exists()


@pytest.mark.slow
def test_a_pickled_pipeline_becomes_a_graph_in_a_confined_process(fitted: Any, trips: Trips, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(fitted, path)
    made = build_bundle(path, trips.rows, allow_pickle=True, target="late", profile=trips.rows, folder=tmp_path / "out")
    assert not made.manifest.executes_code
    assert made.manifest.target == "late"
    assert made.manifest.parity.rows >= trips.rows.height
    assert made.profile().rows == trips.rows.height
    answers = predict_frame(made.predictor(), trips.rows)
    np.testing.assert_allclose(answers["probability"], fitted.predict_proba(trips.rows)[:, 1], atol=1e-5)


@pytest.mark.slow
def test_a_pickle_can_be_kept_and_answered_by_a_worker(trips: Trips, tmp_path: Path) -> None:
    model = small_lightgbm().fit(trips.numbers.to_numpy().astype(float), trips.late)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    made = build_bundle(tmp_path / "model.pkl", trips.numbers, allow_pickle=True, allow_code=True)
    assert made.manifest.code is not None
    assert made.manifest.code.pickles == ("files/model.pkl",)
    assert made.manifest.task is Task.BINARY
    with made.predictor() as predictor:
        assert predictor.worker_pid != os.getpid()
        given = predict_frame(predictor, trips.numbers)["probability"]
    expected = model.predict_proba(trips.numbers.to_numpy().astype(float))[:, 1]
    np.testing.assert_allclose(given, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "error", "told"),
    [
        ("model.bin", b"nothing known", Invalid, "no model file that is known"),
        ("model.txt", b"tree\nversion=v4\nbroken", Invalid, "LightGBM cannot read"),
        ("model.ubj", b"broken", Invalid, "xgboost"),
        ("absent.txt", None, NotFound, r"absent\.txt \(check the path"),
        ("empty/readme.txt", b"", Invalid, "holds no model that is known .known folders"),
        ("onnx/model.onnx", b"", Invalid, r"holds no model that is known .name the file itself: .*model\.onnx"),
        ("saved/saved_model.pb", b"", Invalid, "needs the package 'tensorflow'"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(
    name: str, data: bytes | None, error: type[Exception], told: str, trips: Trips, tmp_path: Path
) -> None:
    folder, _, last = name.rpartition("/")
    (tmp_path / folder).mkdir(exist_ok=True)
    if data is not None:
        (tmp_path / folder / last).write_bytes(data)
    with pytest.raises(error, match=told):
        build_bundle(tmp_path / (folder or last), trips.numbers, task="binary")


@pytest.mark.slow
def test_a_damaged_file_ends_the_confined_process_and_not_this_one(
    booster: lightgbm.Booster, trips: Trips, tmp_path: Path
) -> None:
    """LightGBM's reader calls abort() on a file that is cut off."""
    whole = booster.model_to_string()
    (tmp_path / "model.txt").write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(Invalid, match=r"model\.txt does not become a graph: .*the file may be damaged|cannot read"):
        build_bundle(tmp_path / "model.txt", trips.numbers)


@pytest.mark.slow
def test_a_refusal_in_a_confined_process_is_told_whole(trips: Trips, tmp_path: Path) -> None:
    """Its worst row is longer than what is kept of an error of a stranger's code."""
    model = small_lightgbm().fit(trips.numbers.to_numpy().astype(float), trips.late)
    model.booster_.save_model(tmp_path / "model.txt")
    rows = trips.numbers.rename({name: f"{name}_{'x' * 80}" for name in trips.numbers.columns})
    with pytest.raises(Invalid, match=r"worst row \d+: \[.*\] original gives .*; converted gives .*") as told:
        build_bundle(tmp_path / "model.txt", rows, tolerance=0.0)
    assert len(str(told.value)) > 600
    assert "tolerance" in told.value.next_step
