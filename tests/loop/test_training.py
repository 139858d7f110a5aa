"""Loops that train: the job is a real process of the command line, and the world turns around meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.loop.conftest import START
from tests.loop.replay import Replay
from tests.loop.world import LoopWorld

from loopwright.core import new_id
from loopwright.loop import Controller, LoopOutcome, LoopRun, on_alert
from loopwright.loop.jobs import JobOrder, JobResult, Jobs, model_of
from loopwright.release import Beats, Guard, ParityProven
from loopwright.track import RunStatus

TRAINING_S = 120.0


@pytest.fixture
def replay(small_world: LoopWorld) -> Iterator[Replay]:
    player = Replay(small_world, START)
    yield player
    player.close()


def settle(world: LoopWorld) -> None:
    settled = world.loops.settle(TRAINING_S)
    assert settled.settled, settled.waiting_for


def only_run(world: LoopWorld) -> LoopRun:
    (run,) = [run for run in world.loops.runs() if run.trigger != "proposed"]
    return run


@pytest.mark.slow
def test_the_circle_closes_when_the_world_turns(small_world: LoopWorld, controller: Controller, replay: Replay) -> None:
    """An alert opens, the loop retrains, the gates compare on the same rows, the canary goes up, the guard ends."""
    small_world.declare(
        triggers=(on_alert("delay", "performance"),),
        params={"shift": 1.5, "until": "{now}"},
        gates=(ParityProven(), Beats("brier")),
        guard=Guard(duration_s=86_400.0),
    )
    small_world.watch()
    small_world.loops.release(small_world.fit().ref)
    settle(small_world)
    for day in range(40):
        replay.day(shift=0.0 if day < 4 else 1.5)
        small_world.loops.advance_clock(replay.now)
        settle(small_world)
        if any(run.outcome is LoopOutcome.RELEASED and run.training_run for run in small_world.loops.runs()):
            break
    run = only_run(small_world)
    assert run.outcome is LoopOutcome.RELEASED, run.reason
    (finished,) = [event for event in small_world.events("loop.finished") if event.subject == run.ref]
    assert small_world.causes(finished) == [
        "loop.finished",
        "rollout.closed",
        "rollout.completed",
        "rollout.advanced",
        "rollout.started",
        "approval.granted",
        "approval.requested",
        "gate.judged",
        "model.version_created",
        "run.started",
        "loop.triggered",
        "alert.opened",
    ]
    (alert,) = small_world.events("alert.opened")
    version = small_world.models.get(run.model_version)
    assert version.run == run.training_run
    assert version.tags["until"] == alert.at.isoformat()
    judged = [event for event in small_world.events("gate.judged") if event.evidence["gate"]["kind"] == "beats"]
    assert judged[-1].evidence["difference"]["method"] == "paired_student"
    assert judged[-1].evidence["difference"]["upper"] < 0
    assert judged[-1].evidence["holdout"] == "dataset:holdout@1"
    assert small_world.models.resolve("model:delay@champion") == run.model_version
    assert small_world.stores.events.verify().ok


@pytest.mark.slow
def test_training_that_fails_is_tried_again_and_then_given_up_with_its_reason(
    small_world: LoopWorld, controller: Controller
) -> None:
    small_world.declare(params={"fail": True, "until": "{now}"}, training_attempts=2)
    small_world.loops.trigger("delay")
    settle(small_world)
    run = only_run(small_world)
    assert run.outcome is LoopOutcome.FAILED
    assert "no rows until 2013-06-01" in run.reason
    failures = small_world.events("loop.training_failed")
    assert [event.evidence["attempt"] for event in failures] == [1, 2]
    tried = [event.evidence["training_run"] for event in failures]
    assert len(set(tried)) == 2
    assert {small_world.runs.get(each).status for each in tried} == {RunStatus.FAILED}
    assert small_world.endpoints.served().endpoints == ()


@pytest.mark.slow
def test_a_pipeline_that_hands_out_no_version_fails_the_run(small_world: LoopWorld, controller: Controller) -> None:
    small_world.declare(output="weights", training_attempts=1)
    small_world.loops.trigger("delay")
    settle(small_world)
    assert only_run(small_world).outcome is LoopOutcome.FAILED
    assert "handed out no version of model:delay as 'weights' (it has" in only_run(small_world).reason


def sleeping_order(folder: Path, seconds: float = 60.0) -> JobOrder:
    """A job whose command line is as the real one's, for `python -m loopwright` found in `folder`."""
    package = folder / "loopwright"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        f'import time\ntime.sleep({seconds})\nprint(\'{{"run_id": "x", "status": "finished"}}\')\n'
    )
    return JobOrder(new_id(), "a:b", {"days": 90, "text": "90", "word": "x"}, "default", "event:1", "loop:x")


def jobs_in(folder: Path) -> Jobs:
    return Jobs(folder / "jobs", folder, lambda: None)


def test_the_command_line_keeps_the_types_of_parameters(tmp_path: Path) -> None:
    arguments = sleeping_order(tmp_path).arguments(tmp_path)
    assert arguments[:6] == [sys.executable, "-m", "loopwright", "pipeline", "run", "a:b"]
    assert [each for each in arguments if "=" in each] == ["days=90", 'text="90"', "word=x"]
    assert arguments[-9:-7] == ["--actor", "loop:x"]
    assert arguments[-7:] == ["--cause", "event:1", "--project", "default", "--json", "--workspace", str(tmp_path)]


def test_a_job_is_found_again_by_a_successor_and_not_started_twice(tmp_path: Path) -> None:
    order = sleeping_order(tmp_path)
    first, second = jobs_in(tmp_path), jobs_in(tmp_path)
    try:
        first.ensure(order)
        second.ensure(order)
        assert second.running(order.run_id)
        assert first._processes[order.run_id].pid == second._processes[order.run_id].pid
        assert (tmp_path / "jobs" / f"{order.run_id}.starts").stat().st_size == 1
    finally:
        second.stop(order.run_id)
    assert not first.running(order.run_id)
    assert not first.failed(order.run_id)


def test_a_job_that_ends_wakes_the_controller_and_leaves_its_result(tmp_path: Path) -> None:
    order, woken = sleeping_order(tmp_path, seconds=0.1), []
    jobs = Jobs(tmp_path / "jobs", tmp_path, lambda: woken.append(time.monotonic()))
    jobs.ensure(order)
    deadline = time.monotonic() + 30
    while not woken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert woken
    assert not jobs.running(order.run_id)
    assert jobs.result(order.run_id) == JobResult("x", "finished")


def test_stopping_ends_the_children_of_a_job_too(tmp_path: Path) -> None:
    order = sleeping_order(tmp_path)
    (tmp_path / "loopwright" / "__main__.py").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    jobs = jobs_in(tmp_path)
    jobs.ensure(order)
    process = jobs._processes[order.run_id]
    deadline = time.monotonic() + 30
    while not process.children() and time.monotonic() < deadline:
        time.sleep(0.01)
    (child,) = process.children()
    jobs.stop_all()
    assert not psutil.pid_exists(child.pid) or psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE


def test_a_job_that_is_killed_again_and_again_is_given_up(tmp_path: Path) -> None:
    jobs, order = jobs_in(tmp_path), sleeping_order(tmp_path)
    for _ in range(5):
        assert not jobs.exhausted(order.run_id)
        jobs.ensure(order)
        jobs.stop(order.run_id)
    assert jobs.exhausted(order.run_id)


def test_an_output_may_be_a_ref_or_a_record_with_one() -> None:
    outputs = {"model": "model:a@1", "record": {"ref": "model:a@2"}, "rows": 12}
    result = JobResult("x", "finished", outputs)
    assert model_of(result, "model") == "model:a@1"
    assert model_of(result, "record") == "model:a@2"
    assert model_of(result, "rows") == ""
    assert model_of(result, "nothing") == ""
