"""Loops that train: the job is a real process of the command line, and the world turns around meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.loop.conftest import START
from tests.loop.replay import Replay
from tests.loop.world import LoopWorld

from loopwright.loop import Controller, LoopOutcome, LoopRun, on_alert
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
