"""The life of a loop run: every path that facts can take it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loopwright.core import Conflict
from loopwright.loop import Loop, LoopOutcome, LoopRun, LoopState
from loopwright.loop.transitions import (
    Approved,
    AttemptFailed,
    Begun,
    Cancelled,
    Denied,
    Fact,
    Failed,
    Judged,
    RolloutMoved,
    Trained,
    advance,
)
from loopwright.release import RolloutState

START = datetime(2013, 6, 1, tzinfo=UTC)
ORDER = list(LoopState)


def fresh(attempts: int = 2) -> LoopRun:
    spec = Loop(name="delay", endpoint="delay", model="delay", pipeline="a:b", training_attempts=attempts)
    return LoopRun(
        id="1" * 32,
        project="default",
        loop="delay",
        spec=spec,
        state=LoopState.PENDING,
        trigger="on_alert",
        cause="event:" + "2" * 32,
        created_at=START,
        updated_at=START,
    )


ALL_FACTS: list[Fact] = [
    Begun("3" * 32),
    AttemptFailed("the job died", "4" * 32, "event:attempt"),
    Trained("model:delay@2", "dataset:holdout@1", "event:version"),
    Judged(True, "all gates passed", "5" * 32, "event:gate"),
    Judged(False, "no gain", event="event:gate"),
    Approved("6" * 32, "event:approval"),
    Denied("not today", "event:denied"),
    Failed("the bundle is gone", "event:failed"),
    Cancelled("by hand", "event:cancelled"),
    *(RolloutMoved(state, state.value, f"event:{state.value}") for state in RolloutState),
]


class LifeOfARun(RuleBasedStateMachine):
    """Throw any fact at a run in any state, as racing controllers would."""

    def __init__(self) -> None:
        super().__init__()
        self.run_, self.now, self.accepted, self.finished = fresh(), START, 0, 0

    @rule(fact=st.sampled_from(ALL_FACTS))
    def told(self, fact: Fact) -> None:
        before = self.run_
        self.now += timedelta(seconds=1)
        try:
            after = advance(before, fact, self.now)
        except Conflict:
            return
        self.accepted += 1
        self.finished += after.state is LoopState.FINISHED
        assert ORDER.index(after.state) >= ORDER.index(before.state), "a run never goes back"
        assert after.updated_at == self.now
        assert (after.id, after.spec, after.cause, after.created_at) == (
            before.id,
            before.spec,
            before.cause,
            before.created_at,
        )
        self.run_ = after

    @precondition(lambda self: self.run_.state is LoopState.FINISHED)
    @rule(fact=st.sampled_from(ALL_FACTS))
    def told_after_the_end(self, fact: Fact) -> None:
        with pytest.raises(Conflict):
            advance(self.run_, fact, self.now)

    @invariant()
    def holds_together(self) -> None:
        run = self.run_
        assert run.revision == self.accepted
        assert (run.outcome is not LoopOutcome.NONE) == (run.state is LoopState.FINISHED)
        assert self.finished == (run.state is LoopState.FINISHED), "a run finishes once"
        assert run.attempt <= run.spec.training_attempts
        if run.state is LoopState.TRAINING:
            assert run.training_run
        if run.state in (LoopState.GATING, LoopState.WAITING_APPROVAL, LoopState.ROLLING_OUT, LoopState.GUARDING):
            assert run.model_version
        if run.state in (LoopState.ROLLING_OUT, LoopState.GUARDING):
            assert run.approval
            assert run.rollout


TestLifeOfARun = LifeOfARun.TestCase


def test_the_whole_way_round() -> None:
    run = fresh()
    for fact, state in (
        (ALL_FACTS[0], LoopState.TRAINING),
        (ALL_FACTS[2], LoopState.GATING),
        (ALL_FACTS[3], LoopState.WAITING_APPROVAL),
        (ALL_FACTS[5], LoopState.ROLLING_OUT),
        (RolloutMoved(RolloutState.RUNNING, "more traffic", "event:advanced"), LoopState.ROLLING_OUT),
        (RolloutMoved(RolloutState.GUARDING, "all traffic", "event:completed"), LoopState.GUARDING),
        (RolloutMoved(RolloutState.COMPLETED, "nothing spoke against it", "event:closed"), LoopState.FINISHED),
    ):
        run = advance(run, fact, START)
        assert run.state is state
    assert run.outcome is LoopOutcome.RELEASED
    assert run.last_event == "event:closed"


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ([ALL_FACTS[0], ALL_FACTS[1], ALL_FACTS[1]], LoopOutcome.FAILED),
        ([ALL_FACTS[0], ALL_FACTS[2], ALL_FACTS[4]], LoopOutcome.REJECTED),
        ([ALL_FACTS[0], ALL_FACTS[2], ALL_FACTS[3], ALL_FACTS[6]], LoopOutcome.DENIED),
        ([ALL_FACTS[8]], LoopOutcome.CANCELLED),
    ],
)
def test_each_way_it_can_end(facts: list[Fact], outcome: LoopOutcome) -> None:
    run = fresh()
    for fact in facts:
        run = advance(run, fact, START)
    assert run.state is LoopState.FINISHED
    assert run.outcome is outcome


def test_a_guard_that_rolls_back_ends_the_run_so() -> None:
    run = fresh()
    for fact in (ALL_FACTS[0], ALL_FACTS[2], ALL_FACTS[3], ALL_FACTS[5]):
        run = advance(run, fact, START)
    run = advance(run, RolloutMoved(RolloutState.GUARDING, ""), START)
    run = advance(run, RolloutMoved(RolloutState.ROLLED_BACK, "more requests fail", "event:back"), START)
    assert run.outcome is LoopOutcome.ROLLED_BACK
    assert run.reason == "more requests fail"


def test_a_second_attempt_has_a_run_of_its_own() -> None:
    run = advance(fresh(), Begun("3" * 32), START)
    again = advance(run, AttemptFailed("the job died", "4" * 32), START)
    assert (again.state, again.attempt, again.training_run) == (LoopState.TRAINING, 2, "4" * 32)
