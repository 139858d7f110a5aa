"""The words of the event log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True):
    """A fact that happened.

    `at` is the workspace's time (it may be simulated), `recorded_at` the machine's. `subject` is the ref of what it
    happened to, `cause` the event or request that led to it. `position` counts sealed events from 1 without gaps;
    it is None, and `hash` empty, until the event is sealed.
    """

    id: str
    kind: str
    at: datetime
    recorded_at: datetime
    project: str
    actor: str
    subject: str
    cause: str = ""
    evidence: dict[str, Any] = {}
    position: int | None = None
    hash: str = ""

    @property
    def ref(self) -> str:
        return f"event:{self.id}"


class AuditReport(msgspec.Struct, frozen=True):
    """Whether the chain of events is whole.

    `events` counts the events found good, `head` is the hash of the last of them: note it down elsewhere to prove
    later that the log up to there has not changed. `problem` says in words what is wrong with `first_bad`; where
    events are missing, `first_bad` is the first one after the gap, if there is one.
    """

    ok: bool
    events: int
    head: str
    first_bad: Event | None = None
    problem: str = ""
