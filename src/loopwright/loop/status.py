"""What people see of a loop at a glance. Apart from the other words, since events bring SQL along."""

from __future__ import annotations

import msgspec

from loopwright.loop.model import LoopInfo, LoopRun
from loopwright.store import Event


class LoopStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A loop, what it does now, how it last ended, and its newest decisions."""

    info: LoopInfo
    active: list[LoopRun]
    last: LoopRun | None
    decisions: list[Event]
