"""Where a rollout stands after a decision. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from loopwright.release.decisions import Action, Decision
from loopwright.release.model import Arm, Rollout, RolloutState


def next_state(rollout: Rollout, decision: Decision, now: datetime, control: Arm) -> Rollout:
    """The rollout after a decision, its revision one higher. Pure.

    Args:
        rollout: where it stands.
        decision: what to do; not `wait`.
        now: the workspace's time.
        control: what the control showed during the rollout, for the guard to compare with.
    """
    changes: dict[str, Any] = {
        "reason": decision.reason,
        "statistics": decision.statistics,
        "revision": rollout.revision + 1,
    }
    match decision.action:
        case Action.ADVANCE:
            step = rollout.step + 1
            share = rollout.plan.step(step).share
            changes |= {"state": RolloutState.RUNNING, "step": step, "share": share, "step_started_at": now}
            changes |= {"starts": (*rollout.starts, now)}
        case Action.COMPLETE:
            share = 1.0 - rollout.guard.holdback if rollout.control else 1.0
            guards = bool(rollout.control) and rollout.guard.duration_s > 0
            state = RolloutState.GUARDING if guards else RolloutState.COMPLETED
            changes |= {"state": state, "share": share if guards else 1.0, "control_before": control}
            changes |= {"step_started_at": now, "starts": (*rollout.starts, now), "ended_at": None if guards else now}
        case Action.HOLD:
            changes |= {"state": RolloutState.HELD}
        case Action.CLOSE:
            changes |= {"state": RolloutState.COMPLETED, "share": 1.0, "ended_at": now}
        case Action.ROLL_BACK:
            changes |= {"state": RolloutState.ROLLED_BACK, "share": 0.0, "ended_at": now}
        case Action.WAIT:
            return rollout
    return msgspec.structs.replace(rollout, **changes)
