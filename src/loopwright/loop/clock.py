"""The workspace's time where it is simulated: one row that every process reads, moved on by `loops.advance_clock`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from loopwright.core import Clock, Conflict, Invalid, Settings, SystemClock
from loopwright.loop.tables import workspace_clocks

if TYPE_CHECKING:
    from loopwright.store import Database

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class WorkspaceClock:
    """A simulated clock in the database. It stands at 1970 until it is first moved. Thread-safe; each `now()` reads the
    row, so that a move in one process is seen by all others at once."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def now(self) -> datetime:
        """Where the clock stands."""
        with self._db.read() as connection:
            found = connection.execute(select(workspace_clocks.c.now)).scalar_one_or_none()
        return found or BEGINNING

    def advance(self, to: datetime) -> datetime:
        """Move the clock to a later time, for all processes; where it then stands.

        Raises:
            Invalid: `to` has no zone.
            Conflict: the clock stands later already.
        """
        if to.tzinfo is None:
            raise Invalid(f"time {to.isoformat()} has no zone", next_step="use an aware UTC time")
        row = {"id": 1, "now": to}
        with self._db.begin() as tx:
            stands = tx.execute(select(workspace_clocks.c.now).with_for_update()).scalar_one_or_none()
            if stands is not None and to < stands:
                raise Conflict(f"the clock stands at {stands.isoformat()} and cannot go back to {to.isoformat()}")
            tx.execute(self._db.upsert(workspace_clocks, row, ["id"], ["now"]))
        return to


def workspace_clock(settings: Settings, db: Database) -> Clock:
    """The clock that the settings ask for."""
    return WorkspaceClock(db) if settings.clock == "simulated" else SystemClock()
