"""The life of a loop run as pure functions: a run and a fact give the next run. Nothing here does anything.

pending → training → gating → waiting_approval → rolling_out → guarding → finished

A run moves forward only; a failed training attempt stays in `training` with a new run id while attempts are left. A
version that comes from outside enters at `gating`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from loopwright.core import Conflict
from loopwright.loop.model import LoopOutcome, LoopRun, LoopState
from loopwright.release import RolloutState


class Begun(msgspec.Struct, frozen=True):
    """Training may start under this run id."""

    training_run: str


class AttemptFailed(msgspec.Struct, frozen=True):
    """The training job ended without a model version. `next_run` is the id for another attempt."""

    reason: str
    next_run: str
    event: str = ""


class Trained(msgspec.Struct, frozen=True):
    """The training job registered this version; `event` is the one that told of it."""

    model_version: str
    holdout: str = ""
    event: str = ""


class Judged(msgspec.Struct, frozen=True):
    """All gates have spoken. `approval` is the one that was asked for, if they passed."""

    passed: bool
    reason: str
    approval: str = ""
    event: str = ""


class Approved(msgspec.Struct, frozen=True):
    """Somebody said yes, and the rollout was started."""

    rollout: str
    event: str = ""


class Denied(msgspec.Struct, frozen=True):
    """Somebody said no."""

    reason: str
    event: str = ""


class RolloutMoved(msgspec.Struct, frozen=True):
    """The rollout is in this state now."""

    state: RolloutState
    reason: str
    event: str = ""


class Failed(msgspec.Struct, frozen=True):
    """The run cannot go on."""

    reason: str
    event: str = ""


class Cancelled(msgspec.Struct, frozen=True):
    """A person stopped the run."""

    reason: str
    event: str = ""


Fact = Begun | AttemptFailed | Trained | Judged | Approved | Denied | RolloutMoved | Failed | Cancelled

_TAKES: dict[LoopState, tuple[type, ...]] = {
    LoopState.PENDING: (Begun, Failed, Cancelled),
    LoopState.TRAINING: (AttemptFailed, Trained, Failed, Cancelled),
    LoopState.GATING: (Judged, Failed, Cancelled),
    LoopState.WAITING_APPROVAL: (Approved, Denied, Failed, Cancelled),
    LoopState.ROLLING_OUT: (RolloutMoved, Failed, Cancelled),
    LoopState.GUARDING: (RolloutMoved, Failed, Cancelled),
    LoopState.FINISHED: (),
}


def advance(run: LoopRun, fact: Fact, now: datetime) -> LoopRun:
    """The run after a fact; its revision is one higher.

    Raises:
        Conflict: the fact does not fit the run's state: somebody else was first.
    """
    if not isinstance(fact, _TAKES[run.state]):
        raise Conflict(f"loop run {run.id} is {run.state.value}; {type(fact).__name__} does not fit that")
    event = "" if isinstance(fact, Begun) else fact.event
    moved = _move(run, fact)
    return msgspec.structs.replace(moved, last_event=event or run.last_event, updated_at=now, revision=run.revision + 1)


def _move(run: LoopRun, fact: Fact) -> LoopRun:
    change = msgspec.structs.replace
    match fact:
        case Begun(training_run):
            return change(run, state=LoopState.TRAINING, training_run=training_run, attempt=1)
        case AttemptFailed(reason, next_run):
            if run.attempt >= run.spec.training_attempts:
                return _finish(run, LoopOutcome.FAILED, reason)
            return change(run, training_run=next_run, attempt=run.attempt + 1, reason=reason)
        case Trained(model_version, holdout):
            return change(run, state=LoopState.GATING, model_version=model_version, holdout=holdout, reason="")
        case Judged(passed, reason, approval):
            if not passed:
                return _finish(run, LoopOutcome.REJECTED, reason)
            return change(run, state=LoopState.WAITING_APPROVAL, approval=approval, reason=reason)
        case Approved(rollout):
            return change(run, state=LoopState.ROLLING_OUT, rollout=rollout, reason="")
        case Denied(reason):
            return _finish(run, LoopOutcome.DENIED, reason)
        case RolloutMoved(state, reason):
            return _follow(run, state, reason)
        case Failed(reason):
            return _finish(run, LoopOutcome.FAILED, reason)
        case Cancelled(reason):
            return _finish(run, LoopOutcome.CANCELLED, reason)


def _follow(run: LoopRun, state: RolloutState, reason: str) -> LoopRun:
    if state is RolloutState.COMPLETED:
        return _finish(run, LoopOutcome.RELEASED, reason)
    if state is RolloutState.ROLLED_BACK:
        return _finish(run, LoopOutcome.ROLLED_BACK, reason)
    if state is RolloutState.GUARDING:
        return msgspec.structs.replace(run, state=LoopState.GUARDING, reason=reason)
    if run.state is LoopState.GUARDING:
        raise Conflict(f"loop run {run.id} is guarding; its rollout cannot be {state.value} again")
    return msgspec.structs.replace(run, reason=reason)


def _finish(run: LoopRun, outcome: LoopOutcome, reason: str) -> LoopRun:
    return msgspec.structs.replace(run, state=LoopState.FINISHED, outcome=outcome, reason=reason)
