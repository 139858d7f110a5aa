"""The controller on real predictions and labels: it releases what is good and takes back what is not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.loop.conftest import START
from tests.loop.replay import Replay
from tests.loop.world import LoopWorld

from loopwright.loop import ApprovalPolicy, Controller, LoopOutcome, LoopRun, LoopState
from loopwright.release import Beats, Guard, OnTimeout, ParityProven, RolloutPlan, RolloutState

pytestmark = pytest.mark.slow
GUARD = Guard(duration_s=86_400.0)


@pytest.fixture
def replay(small_world: LoopWorld) -> Iterator[Replay]:
    """Days of requests from June 2013 on."""
    player = Replay(small_world, START)
    yield player
    player.close()


def settle(world: LoopWorld) -> None:
    settled = world.loops.settle(60.0)
    assert settled.settled, settled.waiting_for


def release(world: LoopWorld, model: str) -> LoopRun:
    """Propose a version, and wait for what can be done now."""
    run = world.loops.release(model)
    settle(world)
    return world.loops.run(run.id)


def play(world: LoopWorld, replay: Replay, days: int, run: LoopRun | None = None) -> LoopRun | None:
    """Play days until a run ends, or all of them."""
    for _ in range(days):
        replay.day()
        world.loops.advance_clock(replay.now)
        settle(world)
        if run is not None and not world.loops.run(run.id).active:
            break
    return world.loops.run(run.id) if run is not None else None


def test_the_first_version_is_released_at_once(small_world: LoopWorld, controller: Controller) -> None:
    small_world.declare(gates=(ParityProven(), Beats("auc")))
    run = release(small_world, small_world.fit().ref)
    assert (run.state, run.outcome) == (LoopState.FINISHED, LoopOutcome.RELEASED)
    assert small_world.served() == {"model:delay@1": 1.0}
    (finished,) = small_world.events("loop.finished")
    assert small_world.causes(finished) == [
        "loop.finished",
        "rollout.completed",
        "rollout.started",
        "approval.granted",
        "approval.requested",
        "gate.judged",
        "loop.triggered",
        "model.version_created",
    ]
    assert small_world.stores.events.verify().ok


def test_a_good_version_goes_up_to_the_end_and_a_broken_one_is_taken_back(
    small_world: LoopWorld, controller: Controller, replay: Replay
) -> None:
    small_world.declare(guard=GUARD)
    release(small_world, small_world.fit().ref)
    same = small_world.fit(shift=0.0, tags={"again": "yes"}, run=small_world.runs.start().id)
    run = play(small_world, replay, 40, release(small_world, same.ref))
    assert run is not None
    assert run.outcome is LoopOutcome.RELEASED, run.reason
    assert small_world.served() == {same.ref: 1.0}
    rollout = small_world.rollouts.get(run.rollout)
    assert rollout.state is RolloutState.COMPLETED
    assert small_world.kinds("rollout.")[2:] == [
        "rollout.started",
        "rollout.advanced",
        "rollout.completed",
        "rollout.closed",
    ]

    broken = small_world.fit(damage="broken")
    run = play(small_world, replay, 40, release(small_world, broken.ref))
    assert run is not None
    assert run.outcome is LoopOutcome.ROLLED_BACK
    assert small_world.served() == {same.ref: 1.0}
    assert small_world.models.resolve("model:delay@champion") == same.ref
    (back,) = small_world.events("rollout.rolled_back")
    assert back.evidence["statistics"]["loss"]["lower"] > 0.05
    assert back.evidence["share"] == {"before": 0.25, "after": 0.0}
    assert small_world.causes(back)[:2] == ["rollout.rolled_back", "rollout.started"]


def test_a_person_is_asked_and_obeyed(small_world: LoopWorld, controller: Controller) -> None:
    small_world.declare(approval=ApprovalPolicy.PERSON)
    run = release(small_world, small_world.fit().ref)
    assert run.state is LoopState.WAITING_APPROVAL
    assert small_world.endpoints.served().endpoints == ()
    small_world.approvals.deny(run.approval, "not on a Friday")
    settle(small_world)
    assert small_world.loops.run(run.id).outcome is LoopOutcome.DENIED
    assert small_world.loops.run(run.id).reason == "denied by user:local: not on a Friday"
    again = release(small_world, "model:delay@1")
    small_world.approvals.grant(again.approval)
    settle(small_world)
    assert small_world.loops.run(again.id).outcome is LoopOutcome.RELEASED


def test_gates_that_do_not_pass_end_the_run(small_world: LoopWorld, controller: Controller) -> None:
    from tests.loop.project import make_rows

    holdout = small_world.datasets.ingest("holdout", make_rows(2000, seed=8)).ref
    small_world.declare(gates=(Beats("auc"), ParityProven()))
    release(small_world, small_world.fit().ref)
    broken = small_world.fit(damage="broken", tags={"holdout": holdout})
    run = release(small_world, broken.ref)
    assert run.outcome is LoopOutcome.REJECTED
    assert "failed: the gain in auc" in run.reason
    verdicts = [event for event in small_world.events("gate.judged") if event.subject == broken.ref]
    assert [event.evidence["outcome"] for event in verdicts] == ["failed", "passed"]
    assert verdicts[0].evidence["difference"]["upper"] < 0
    assert small_world.served() == {"model:delay@1": 1.0}


def test_a_rollout_without_labels_times_out_as_the_plan_says(
    small_world: LoopWorld, controller: Controller, replay: Replay
) -> None:
    day = 86_400.0
    plan = RolloutPlan(steps=(0.2,), max_step_s=2 * day, min_labels=10**6, on_timeout=OnTimeout.ROLL_BACK)
    small_world.declare(rollout=plan)
    release(small_world, small_world.fit().ref)
    other = small_world.fit(run=small_world.runs.start().id)
    run = play(small_world, replay, 5, release(small_world, other.ref))
    assert run is not None
    assert run.outcome is LoopOutcome.ROLLED_BACK
    assert run.reason.startswith("not enough evidence")


def test_an_endpoint_that_is_busy_makes_the_next_version_wait(
    small_world: LoopWorld, controller: Controller, replay: Replay
) -> None:
    small_world.declare()
    release(small_world, small_world.fit().ref)
    first = release(small_world, small_world.fit(run=small_world.runs.start().id).ref)
    second = release(small_world, small_world.fit(run=small_world.runs.start().id).ref)
    assert (first.state, second.state) == (LoopState.ROLLING_OUT, LoopState.WAITING_APPROVAL)
    small_world.loops.cancel(first.id)
    settle(small_world)
    assert small_world.loops.run(second.id).state is LoopState.ROLLING_OUT
    assert small_world.endpoints.get("delay").rollout == small_world.loops.run(second.id).rollout


def test_the_version_that_has_the_traffic_cannot_be_released_again(
    small_world: LoopWorld, controller: Controller
) -> None:
    small_world.declare()
    release(small_world, small_world.fit().ref)
    run = release(small_world, "model:delay@1")
    assert run.outcome is LoopOutcome.FAILED
    assert "has the traffic of endpoint 'delay' already" in run.reason


def test_one_broken_loop_does_not_stop_the_others(small_world: LoopWorld, controller: Controller) -> None:
    small_world.declare()
    small_world.declare(name="other", endpoint="other")
    version = small_world.fit()
    gone = small_world.fit(damage="broken")
    lost = small_world.loops.release(gone.ref, "other")
    small_world.loops.release(version.ref, "delay")
    with small_world.stores.db.begin() as tx:
        tx.exec_driver_sql("DELETE FROM model_versions WHERE version = 2")
    settle(small_world)
    assert small_world.loops.run(lost.id).outcome is LoopOutcome.FAILED
    assert small_world.served("delay") == {version.ref: 1.0}


def test_a_controller_with_nothing_to_do_answers_at_once(small_world: LoopWorld, controller: Controller) -> None:
    small_world.declare()
    small_world.watch()
    release(small_world, small_world.fit().ref)
    taken = []
    for number in range(40):
        small_world.loops.advance_clock(START + timedelta(minutes=number))
        begun = time.perf_counter()
        settle(small_world)
        taken.append(time.perf_counter() - begun)
    # Twenty milliseconds is the aim on a quiet machine; the bound leaves room for a busy one.
    assert statistics.median(taken) < 0.1, f"median {statistics.median(taken) * 1000:.1f} ms"
