"""The last part of a loop run: its rollout is judged step by step, and the run follows it."""

from __future__ import annotations

import logging

from loopwright.core import Conflict
from loopwright.loop.model import LoopRun, LoopState
from loopwright.loop.moving import move
from loopwright.loop.rooms import Rooms
from loopwright.loop.transitions import RolloutMoved
from loopwright.release import Action, Rollout, RolloutState

_log = logging.getLogger(__name__)


def judge_rollout(ws: Rooms, rollout: Rollout) -> bool:
    """Decide over one rollout on what the monitors counted; whether it moved.

    Raises:
        Unavailable: a store does not answer.
    """
    decision, strata = ws.rollouts.weigh(rollout)
    if decision.action is Action.WAIT:
        return False
    try:
        ws.rollouts.apply(rollout, decision, strata)
    except Conflict:
        return False  # somebody else moved it: the next pass reads where it stands
    _log.info("rollout %s: %s: %s", rollout.id, decision.action.value, decision.reason)
    return True


def follow(ws: Rooms, run: LoopRun) -> bool:
    """Bring a run up to its rollout; whether it moved."""
    rollout = ws.rollouts.get(run.rollout)
    known = rollout.event == run.last_event
    guarding = rollout.state is RolloutState.GUARDING and run.state is not LoopState.GUARDING
    if rollout.state.active and known and not guarding:
        return False
    with ws.stores.db.begin() as tx:
        move(ws.stores, tx, run, RolloutMoved(rollout.state, rollout.reason, rollout.event))
    return True
