"""Scoring jobs: declared, triggered, scored once whatever is killed, and watched like an endpoint."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMRegressor

import loopwright as lw
from loopwright.cli.main import main
from loopwright.core import Conflict, Invalid, Unavailable
from loopwright.loop import (
    Controller,
    ScoringJob,
    ScoringRun,
    ScoringState,
    carry_out,
    check_job,
    every,
    load_scoring_jobs,
    on_alert,
    on_new_version,
)
from loopwright.loop.jobs import Jobs
from loopwright.loop.scoring import carrying, passing
from loopwright.loop.triggers import wants
from loopwright.models import Bundle, build_bundle
from loopwright.monitor import Verdict
from loopwright.workspace import Workspace

ROWS = 1_500


def rows_of(start: int, count: int = ROWS, shift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(start)
    columns = {name: rng.normal(loc=shift, size=count) for name in ("a", "b")}
    return pl.DataFrame({"id": np.arange(start, start + count), **columns})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    training = rows_of(0, 3_000)
    model = LGBMRegressor(n_estimators=5, verbose=-1).fit(training.select("a", "b").to_numpy(), training["a"])
    return build_bundle(model, training.select("a", "b"), folder=tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def ws(tmp_path: Path, with_schema: Callable[[Path], Path], bundle: Bundle) -> Iterator[Workspace]:
    """A workspace with a model of two inputs, and rows for it."""
    with lw.connect(with_schema(tmp_path)) as opened:
        assert isinstance(opened, Workspace)
        opened.models.register("m", bundle)
        opened.datasets.ingest("rows", rows_of(0))
        yield opened


def job_of(**changes: object) -> ScoringJob:
    given = {"name": "nightly", "model": "model:m", "input": "dataset:rows", "output": "dataset:answers"}
    return ScoringJob(**{**given, **changes})  # type: ignore[arg-type]


def started(ws: Workspace, job: ScoringJob) -> ScoringRun:
    """A run of a job that a controller has started, without its process."""
    ws.scoring_jobs.apply(job)
    ws.scoring_jobs.trigger(job.name)
    jobs = Jobs(ws.stores.data / "jobs", ws.stores.root, lambda: None)
    passing.step(ws, jobs, ws.stores.clock.now())
    [run] = ws.scoring_jobs.runs(active=True)
    assert run.state is ScoringState.RUNNING
    return run


def carried(ws: Workspace, job: ScoringJob) -> ScoringRun:
    return carry_out(ws, started(ws, job).id)


def test_only_new_rows_are_scored_and_drift_opens_an_alert(ws: Workspace) -> None:
    job = job_of(new_rows=True, owner="user:ann")
    first = carried(ws, job)
    assert (first.rows, first.source, first.since, first.made) == (ROWS, "dataset:rows@1", None, "dataset:answers@1")
    assert carried(ws, job).reason == "dataset:rows@1 has no rows that were not scored before"
    ws.datasets.ingest("rows", rows_of(ROWS, shift=3.0), mode="append")
    second = carried(ws, job)
    assert (second.rows, second.source, second.since, second.made) == (ROWS, "dataset:rows@2", 1, "dataset:answers@2")
    answers = ws.datasets.read("dataset:answers").sort("id")
    assert answers["id"].to_list() == list(range(2 * ROWS))
    assert answers["value"].null_count() == 0
    ws.monitors.advance()
    newest, oldest = ws.monitors.windows(endpoint="scoring.nightly")
    assert (oldest.drift_verdict, oldest.rows, oldest.model) == (Verdict.FINE, ROWS, "model:m@1")
    assert newest.drift_verdict is Verdict.BAD
    assert {found.feature for found in newest.drift if found.drifted} == {"a", "b", "answer:value"}
    [alert] = ws.monitors.alerts(open_only=True)
    assert (alert.monitor, alert.endpoint, alert.owner) == ("scoring.nightly", "scoring.nightly", "user:ann")
    [opened] = list(ws.stores.events.read(kinds=["alert.opened"]))
    assert wants(on_alert("scoring.nightly"), opened)  # so a loop that retrains may wait for it
    upwards = {node.ref for node in ws.lineage.trace("dataset:answers@2").nodes}
    assert {second.ref, "model:m@1", "dataset:rows@2"} <= upwards
    ws.datasets.ingest("rows", rows_of(0, 10))
    replaced = carried(ws, job)
    assert (replaced.rows, replaced.since, ws.datasets.read("dataset:answers").height) == (10, None, 10)


def test_tables_of_the_project_are_read_and_written(ws: Workspace, tmp_path: Path) -> None:
    rows_of(0, 40).write_delta(str(tmp_path / "lake" / "rows"))
    ws.endpoints.create("e", "m")
    job = job_of(input="table:lake/rows", output="table:lake/answers", model="endpoint:e", new_rows=True, keep=("id",))
    run = started(ws, job)
    with pytest.raises(Conflict, match="no stable version"):
        carry_out(ws, run.id)
    assert ws.scoring_jobs.run(run.id).state is ScoringState.FAILED
    ws.endpoints.set_traffic("e", {"model:m@1": 1.0})
    assert carried(ws, job).source == "table:lake/rows@0"
    rows_of(40, 5).write_delta(str(tmp_path / "lake" / "rows"), mode="append")
    last = carried(ws, job)
    assert (last.rows, last.made) == (5, "table:lake/answers@1")
    found = pl.read_delta(str(tmp_path / "lake" / "answers")).sort("id")
    assert found["id"].to_list() == list(range(45))
    assert found.columns == ["id", "value"]
    assert "table:lake/rows@1" in {node.ref for node in ws.lineage.trace("table:lake/answers@1").nodes}


class Killed(BaseException):
    """The process is gone at this line."""


@pytest.mark.parametrize("line", ["deliver", "finish"])
def test_a_run_that_was_killed_goes_on_and_delivers_once(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    run = started(ws, job_of(new_rows=True))

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if line == "deliver":  # the answers are scored, and are not in the dataset yet
            patch.setattr("loopwright.serve.batch.service.ScoringService._hand_out", kill)
        else:  # they are in the dataset, and nobody knows of it
            patch.setattr(carrying, "finish", kill)
        with pytest.raises(Killed):
            carry_out(ws, run.id)
    done = carry_out(ws, run.id)
    assert (done.state, done.rows, done.made) == (ScoringState.FINISHED, ROWS, "dataset:answers@1")
    assert len(ws.datasets.versions("answers")) == 1
    with pytest.raises(Conflict, match="is finished"):
        carry_out(ws, run.id)
    assert len(ws.runs.search("", experiment="scoring")) == 1
    ws.monitors.advance()
    [window] = ws.monitors.windows(endpoint="scoring.nightly")
    assert window.rows == ROWS
    assert not list((ws.stores.data / "scoring").iterdir())
    assert [event.kind for event in ws.stores.events.read() if event.subject == run.ref][-1] == "scoring.finished"


def test_what_can_be_mended_by_waiting_is_tried_again_and_the_rest_is_not(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(ws, job_of())
    with monkeypatch.context() as patch:
        patch.setattr("loopwright.serve.batch.parts.Parts.write", lambda *_: (_ for _ in ()).throw(Unavailable("full")))
        with pytest.raises(Unavailable):
            carry_out(ws, run.id)
    assert ws.scoring_jobs.run(run.id).state is ScoringState.RUNNING
    assert carry_out(ws, run.id).rows == ROWS
    ws.datasets.ingest("rows", rows_of(0, 5).with_columns(a=pl.lit(None, dtype=pl.Float64)))
    with pytest.raises(Invalid, match="row 0 has no value in column 'a'"):
        carried(ws, job_of())
    failed = ws.scoring_jobs.runs("nightly", limit=1)[0]
    assert (failed.state, ws.scoring_jobs.get("nightly").scored_to) == (ScoringState.FAILED, "dataset:rows@1")
    assert "row 0 has no value" in failed.reason


@pytest.mark.slow
def test_the_controller_runs_a_job_by_its_triggers_through_kill_9(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "scoring.yaml").write_text(
        "name: nightly\nmodel: model:m@1\ninput: dataset:rows\noutput: dataset:answers\nnew_rows: true\n"
        "triggers: [{kind: on_new_version, dataset: rows}, {kind: every, seconds: 86400}]\n"
    )
    assert main(["scoring", "apply", str(tmp_path / "scoring.yaml"), "-w", str(tmp_path)]) == 0
    controller = Controller(ws, tick_s=0.05)
    controller.start()
    try:
        ws.datasets.ingest("rows", rows_of(ROWS), mode="append")
        kill_once()
        [run] = eventually(lambda: [one for one in ws.scoring_jobs.runs() if one.state is ScoringState.FINISHED])
        windows = eventually(lambda: list(ws.monitors.windows(monitor="scoring.nightly")))
    finally:
        controller.stop()
    assert (run.trigger, run.rows, run.made) == ("on_new_version", 2 * ROWS, "dataset:answers@1")
    assert len(ws.datasets.versions("answers")) == 1
    assert (ws.stores.data / "jobs" / f"{run.id}.starts").stat().st_size >= 2
    [window] = windows
    assert window.rows == 2 * ROWS


def kill_once() -> None:
    """Kill the process of the run as soon as it is there."""
    import psutil

    def found() -> list[int]:
        mine = [child for child in psutil.Process().children() if "carry-out" in child.cmdline()]
        return [child.pid for child in mine]

    [pid, *_] = eventually(found)
    os.kill(pid, signal.SIGKILL)


def eventually(find: Callable[[], list]) -> list:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if result := find():
            return result
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")


def test_timers_and_events_wait_as_one_run(ws: Workspace) -> None:
    ws.scoring_jobs.apply(job_of(triggers=(on_new_version("rows"), every(seconds=0.001))))
    ws.datasets.ingest("rows", rows_of(5))
    for _ in range(3):
        passing.collect(ws.stores, ws.stores.clock.now())
        ws.scoring_jobs.trigger("nightly")
    [run] = ws.scoring_jobs.runs()
    assert run.state is ScoringState.WAITING
    assert len(list(ws.stores.events.read(kinds=["scoring.triggered"]))) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "cannot name a scoring job"),
        ({"model": "dataset:m"}, "field model: 'dataset:m' cannot be used"),
        ({"input": "table:../rows"}, "field input: '../rows' is not a safe relative path"),
        ({"output": "table:.loopwright/tables/x"}, "field output: .* no hidden folder"),
        ({"input": "dataset:rows@3"}, "names one version"),
        ({"output": "dataset:rows"}, "would become rows to score"),
        ({"triggers": (every(seconds=0),)}, "is no period"),
        ({"attempts": 0}, "write at least 1"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_by_its_field(changes: dict, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        check_job(job_of(**changes))


def test_a_file_of_jobs_is_read_and_its_mistakes_are_placed(tmp_path: Path) -> None:
    path = tmp_path / "scoring.yaml"
    path.write_text("- {name: a, model: model:m, input: dataset:x, output: dataset:y, drift: null}\n")
    assert load_scoring_jobs(path) == [
        ScoringJob(name="a", model="model:m", input="dataset:x", output="dataset:y", drift=None)
    ]
    path.write_text("{name: a, model: model:m, input: dataset:x, output: dataset:y, colour: red}\n")
    with pytest.raises(Invalid, match=r"scoring.yaml, scoring job 'a': .*colour"):
        load_scoring_jobs(path)
