"""Moving a loop run on: its next state, its end's event, in the caller's transaction."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from loopwright.core import Scope
from loopwright.loop.model import LoopRun
from loopwright.loop.rows import replace_run
from loopwright.loop.transitions import Fact, advance
from loopwright.store import Stores


def actor_of(loop: str) -> str:
    """On whose behalf a loop acts."""
    return f"loop:{loop}"


def move(stores: Stores, tx: Connection, run: LoopRun, fact: Fact) -> LoopRun:
    """The run after a fact, written; event loop.finished if that ends it.

    Raises:
        Conflict: the fact does not fit, or somebody else moved the run.
    """
    after = advance(run, fact, stores.clock.now())
    if not after.active:
        scope = Scope(run.project, actor_of(run.loop), after.last_event or run.cause)
        told = {
            "loop": f"loop:{run.loop}",
            "outcome": after.outcome.value,
            "reason": after.reason,
            "model": after.model_version,
            "training_run": f"run:{after.training_run}" if after.training_run else "",
            "rollout": f"rollout:{after.rollout}" if after.rollout else "",
            "attempts": after.attempt,
        }
        event = stores.events.append(tx, "loop.finished", run.ref, scope, {k: v for k, v in told.items() if v})
        after = msgspec.structs.replace(after, last_event=event.ref)
    replace_run(tx, run, after)
    return after
