"""Time, asked in one place, so that a replay and a test can set it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Protocol

from loopwright.core.errors import Invalid


class Clock(Protocol):
    """Tells the workspace's time. Thread-safe; never goes back by more than the system's own corrections."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved forward: for replays and tests."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def advance(self, to: datetime) -> None:
        """Move to a later time.

        Raises:
            Invalid: `to` is earlier than now, or has no time zone.
        """
        if to.tzinfo is None:
            raise Invalid(f"time {to.isoformat()} has no zone", next_step="use an aware UTC time")
        with self._lock:
            if to < self._now:
                raise Invalid(f"the clock stands at {self._now.isoformat()} and cannot go back to {to.isoformat()}")
            self._now = to
