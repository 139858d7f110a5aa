"""What one can ask of the log of events: the audit trail of a project."""

from __future__ import annotations

from loopwright.core import Invalid, NotFound, Scope, operation
from loopwright.govern.model import EVERY_PROJECT
from loopwright.store import AuditReport, Event, Stores

_LIMIT = 10_000


class HistoryService:
    """Reads events of the scope's project; in the project `*`, of all."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @property
    def _project(self) -> str | None:
        return None if self.scope.project == EVERY_PROJECT else self.scope.project

    @operation("events.list", permission="events:read")
    def list(
        self, after: int = 0, limit: int = 1000, kinds: tuple[str, ...] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        """Events behind a position, oldest first.

        Args:
            after: the position of the last event that was seen; 0 for the beginning.
            limit: at most so many, up to 10,000.
            kinds: only these kinds, such as `run.finished`.
            subject: only what happened to this ref.

        Raises:
            Invalid: `after` or `limit` is out of range.
        """
        if after < 0:
            raise Invalid(f"after is {after}", where="after", next_step="use 0 or the position of an event")
        found = self.stores.events.read(after, _bounded(limit), kinds, self._project, subject)
        return tuple(found)

    @operation("events.latest", permission="events:read")
    def latest(
        self, limit: int = 100, before: int | None = None, kinds: tuple[str, ...] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        """Events, newest first.

        Args:
            limit: at most so many, up to 10,000.
            before: the position of the last event of the page before.
            kinds: only these kinds.
            subject: only what happened to this ref.

        Raises:
            Invalid: `limit` is out of range.
        """
        found = self.stores.events.latest(_bounded(limit), before, kinds, self._project, subject)
        return tuple(found)

    @operation("events.get", permission="events:read")
    def get(self, event: str) -> Event:
        """One event, by its id or ref.

        Raises:
            NotFound: there is none in this project.
        """
        found = self.stores.events.get(event)
        if self._project is not None and found.project != self._project:
            raise NotFound(f"there is no event {event!r}", next_step="loopwright events lists them")
        return found

    @operation("events.verify", permission="events:admin")
    def verify(self) -> AuditReport:
        """Walk the whole chain of events and say whether one was edited, removed or reordered."""
        return self.stores.events.verify()

    def head(self) -> int:
        """The position of the newest event of the workspace; 0 while there is none. Seals first, as reading does."""
        self.stores.events.seal()
        return self.stores.events.head()


def _bounded(limit: int) -> int:
    if not 1 <= limit <= _LIMIT:
        raise Invalid(f"limit is {limit}", where="limit", next_step=f"use 1 to {_LIMIT}")
    return limit
