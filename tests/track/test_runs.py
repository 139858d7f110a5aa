"""Runs from their start to their end: what is kept, what is refused, which events and lineage follow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loopwright.core import Conflict, Invalid, ManualClock, NotFound, Scope, new_id
from loopwright.store import Stores
from loopwright.track import MetricPoint, RunInput, RunService, RunStatus


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope(actor="user:ada", cause="request-1"))


def kinds(runs: RunService, run_id: str) -> list[str]:
    return [event.kind for event in runs.stores.events.read(subject=f"run:{run_id}")]


def test_a_run_keeps_what_it_was_given(runs: RunService) -> None:
    run = runs.start("trees", "first", params={"lr": "0.1"}, tags={"team": "π"})
    runs.log_params(run.id, {"depth": "6"})
    runs.log_metrics(run.id, {"auc": 0.8, "loss": 0.5}, step=1)
    runs.log_metrics(run.id, {"auc": 0.9}, step=2)
    runs.set_tags(run.id, {"team": "ops"})
    done = runs.finish(run.id)
    assert (done.experiment, done.name, done.status, done.actor) == ("trees", "first", "finished", "user:ada")
    assert done.params == {"lr": "0.1", "depth": "6"}
    assert done.metrics == {"auc": 0.9, "loss": 0.5}
    assert done.tags == {"team": "ops"}
    assert done.ended_at is not None
    assert runs.get(f"run:{run.id}") == done


def test_starting_and_ending_are_events_with_their_cause(runs: RunService) -> None:
    finished, failed, killed = runs.start().id, runs.start().id, runs.start().id
    runs.finish(finished)
    runs.finish(failed, RunStatus.FAILED, "no rows")
    runs.finish(killed, RunStatus.KILLED)
    assert kinds(runs, finished) == ["run.started", "run.finished"]
    assert kinds(runs, failed) == ["run.started", "run.failed"]
    assert kinds(runs, killed) == ["run.started", "run.killed"]
    event = runs.stores.events.read(subject=f"run:{failed}")[-1]
    assert (event.actor, event.cause, event.evidence["error"]) == ("user:ada", "request-1", "no rows")


def test_a_run_ends_once(runs: RunService) -> None:
    run = runs.start().id
    first = runs.finish(run)
    assert runs.finish(run) == first
    with pytest.raises(Conflict, match="finished"):
        runs.finish(run, RunStatus.FAILED)
    with pytest.raises(Invalid, match="cannot end as 'running'"):
        runs.finish(run, RunStatus.RUNNING)
    assert kinds(runs, run) == ["run.started", "run.finished"]


def test_a_param_keeps_its_first_value(runs: RunService) -> None:
    run = runs.start(params={"lr": "0.1"}).id
    runs.log_params(run, {"lr": "0.1", "depth": "6"})
    with pytest.raises(Conflict, match=r"'lr' is '0.1' already and cannot become '0.2'"):
        runs.log_params(run, {"lr": "0.2", "new": "x"})
    assert runs.get(run).params == {"lr": "0.1", "depth": "6"}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("", "x", "cannot name a param"),
        ("k" * 251, "x", "cannot name a param"),
        ("a\nb", "x", "cannot name a param"),
        ("k", "x" * 10_001, "10,001 characters; the limit is 10,000"),
        ("k", "a\x00b", "no text"),
        ("k", "\ud800", "no text"),
    ],
)
def test_what_cannot_be_stored_is_refused_whole(runs: RunService, key: str, value: str, problem: str) -> None:
    run = runs.start().id
    with pytest.raises(Invalid, match=problem):
        runs.log_params(run, {"fine": "1", key: value})
    assert runs.get(run).params == {}


def test_unusual_keys_and_long_values_come_back_as_they_were(runs: RunService) -> None:
    given = {"a/b.c-d e:f": "x" * 10_000, "k" * 250: "", "größe": "'; DROP TABLE runs; --"}
    run = runs.start(params=given, tags=given)
    assert (run.params, run.tags) == (given, given)


def test_a_run_that_did_not_finish_goes_on_under_its_id(runs: RunService) -> None:
    run_id = new_id()
    runs.start("e", params={"lr": "0.1"}, run_id=run_id)
    runs.log_metrics(run_id, {"auc": 0.5})
    runs.finish(run_id, RunStatus.FAILED, "killed")
    again = runs.start("e", params={"lr": "0.1", "depth": "3"}, run_id=run_id)
    assert (again.status, again.error, again.ended_at) == ("running", "", None)
    assert (again.metrics, again.params) == ({"auc": 0.5}, {"lr": "0.1", "depth": "3"})
    runs.finish(run_id)
    assert kinds(runs, run_id) == ["run.started", "run.failed", "run.resumed", "run.finished"]
    with pytest.raises(Conflict, match="has finished"):
        runs.start("e", run_id=run_id)


def test_an_id_belongs_to_one_project(stores: Stores) -> None:
    mine, theirs = RunService(stores, Scope("mine")), RunService(stores, Scope("theirs"))
    run = mine.start().id
    with pytest.raises(Conflict, match="taken"):
        theirs.start(run_id=run)
    for ask in (theirs.get, theirs.finish, theirs.artifacts):
        with pytest.raises(NotFound, match="no run"):
            ask(run)
    with pytest.raises(NotFound):
        theirs.log_metrics(run, {"x": 1.0})
    assert theirs.search() == []
    assert theirs.experiments() == []


@pytest.mark.parametrize("given", ["x", "0" * 31, "G" * 32, "../../etc/passwd"])
def test_an_id_that_is_none_is_refused(runs: RunService, given: str) -> None:
    with pytest.raises(Invalid, match="is not a run id"):
        runs.start(run_id=given)


def test_a_child_needs_a_parent_that_is_there(runs: RunService) -> None:
    parent = runs.start(kind="search").id
    child = runs.start(parent=f"run:{parent}")
    assert child.parent == parent
    with pytest.raises(NotFound):
        runs.start(parent=new_id())


def test_inputs_are_kept_and_lead_to_the_run(runs: RunService) -> None:
    run = runs.start()
    runs.log_inputs(run.id, [RunInput("dataset:flights@12", "train", "d" * 64), RunInput("dataset:weather@3")])
    runs.log_inputs(run.id, [RunInput("dataset:weather@3", "weather")])
    found = runs.get(run.id).inputs
    assert {(item.ref, item.name) for item in found} == {
        ("dataset:flights@12", "train"),
        ("dataset:weather@3", "weather"),
    }
    up = runs.stores.lineage.trace(run.ref, "up")
    assert {edge.source for edge in up.edges} == {"dataset:flights@12", "dataset:weather@3"}
    with pytest.raises(Invalid, match="is not a ref"):
        runs.log_inputs(run.id, [RunInput("flights")])
    runs.log_inputs(run.id, [RunInput(f"model:{'m' * 256}@{10**9}", "n" * 250)])
    for item in (RunInput(f"table:{'/'.join(['t' * 100] * 3)}@1"), RunInput("dataset:flights@1", "n" * 251)):
        with pytest.raises(Invalid, match="give up to"):
            runs.log_inputs(run.id, [item])


def test_an_output_leads_back_to_the_run(runs: RunService) -> None:
    run = runs.start()
    runs.log_output(run.id, "dataset:scores@1", "e" * 64)
    assert [edge.source for edge in runs.stores.lineage.trace("dataset:scores@1", "up").edges] == [run.ref]


def test_artifacts_are_listed_read_and_replaced(runs: RunService, tmp_path: Path) -> None:
    run = runs.start().id
    folder = tmp_path / "plots"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "b.txt").write_text("b")
    runs.log_artifact(run, folder)
    runs.log_artifact(run, b"one", "note.txt")
    runs.log_artifact(run, b"three", "note.txt")
    assert [item.path for item in runs.artifacts(run)] == ["note.txt", "plots/a.txt", "plots/deep/b.txt"]
    assert [item.path for item in runs.artifacts(run, "plots/deep")] == ["plots/deep/b.txt"]
    assert runs.artifacts(run, "plot") == []
    assert (runs.artifact(run, "note.txt"), runs.artifacts(run)[0].size_bytes) == (b"three", 5)
    with pytest.raises(NotFound, match="has no artifact 'note'"):
        runs.artifact(run, "note")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a//b", "a\\b", "", "a/\x00"])
def test_an_artifact_cannot_leave_its_run(runs: RunService, name: str) -> None:
    run = runs.start().id
    with pytest.raises(Invalid):
        runs.log_artifact(run, b"x", name)
    assert runs.artifacts(run) == []


def test_an_active_run_finishes_fails_and_is_killed(runs: RunService) -> None:
    with runs.active("e", params={"a": "1"}) as run:
        run.log_metric("auc", 0.9)
        run.log_params({"depth": 6})
        run.set_tags({"k": True})
    found = runs.get(run.id)
    assert (found.status, found.params, found.tags) == ("finished", {"a": "1", "depth": "6"}, {"k": "True"})

    with pytest.raises(ZeroDivisionError), runs.active() as run:
        _ = 1 / 0
    found = runs.get(run.id)
    assert (found.status, found.error) == ("failed", "ZeroDivisionError: division by zero")
    assert b"ZeroDivisionError" in runs.artifact(run.id, "error/traceback.txt")

    with pytest.raises(KeyboardInterrupt), runs.active() as run:
        raise KeyboardInterrupt
    assert runs.get(run.id).status == "killed"


def test_a_baseline_is_a_finished_run_of_its_experiment(runs: RunService) -> None:
    run, other = runs.start("e").id, runs.start("other").id
    assert runs.baseline("e") is None
    with pytest.raises(Conflict, match="running"):
        runs.pin_baseline("e", run)
    runs.finish(run)
    runs.finish(other)
    with pytest.raises(Invalid, match="does not belong"):
        runs.pin_baseline("e", other)
    assert runs.pin_baseline("e", run).baseline == run
    baseline = runs.baseline("e")
    assert baseline is not None
    assert baseline.id == run
    assert kinds(runs, run)[-1] == "baseline.pinned"
    with pytest.raises(NotFound, match="no experiment"):
        runs.baseline("nothing")


def test_a_comparison_shows_what_differs(runs: RunService) -> None:
    first = runs.start("e", params={"lr": "0.1", "same": "x"}).id
    second = runs.start("e", params={"lr": "0.2", "same": "x"}).id
    runs.log_metrics(first, {"auc": 0.8, "only": 1.0})
    runs.log_metrics(second, {"auc": 0.75})
    found = runs.compare([first, second])
    assert [(item.key, item.values) for item in found.params] == [("lr", ["0.1", "0.2"])]
    assert [(item.key, item.values) for item in found.metrics] == [("auc", [0.8, 0.75]), ("only", [1.0, None])]
    assert found.metrics[0].delta == [0.0, pytest.approx(-0.05)]
    assert [item.key for item in runs.compare([first, second], everything=True).params] == ["lr", "same"]
    with pytest.raises(Invalid, match="1 runs cannot be compared"):
        runs.compare([first])
    with pytest.raises(NotFound):
        runs.compare([first, new_id()])


def test_times_are_those_of_the_workspaces_clock(stores: Stores) -> None:
    clock = ManualClock(datetime(2013, 6, 1, tzinfo=UTC))
    stores.clock = clock
    runs = RunService(stores, Scope())
    run = runs.start()
    runs.log_points(run.id, [MetricPoint("auc", 0.5)])
    clock.advance(clock.now() + timedelta(hours=2))
    done = runs.finish(run.id)
    assert (done.started_at, done.seconds) == (datetime(2013, 6, 1, tzinfo=UTC), 7200.0)
    assert runs.history(run.id, "auc").times_us == [int(done.started_at.timestamp() * 1_000_000)]
