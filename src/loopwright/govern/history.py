"""What one can ask about the log of events: the audit trail of a project."""

from __future__ import annotations

from loopwright.core import Invalid, NotFound, Scope, operation
from loopwright.store import AuditReport, Event, Stores

_MAX_PAGE = 10_000


class HistoryService:
    """Reads the events of the scope's project, and verifies the chain of all events."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("events.list", permission="events:read")
    def list(self, after: int = 0, limit: int = 1000, kinds: tuple[str, ...] = (), subject: str = "") -> list[Event]:
        """Events after a position, oldest first.

        Args:
            after: the position of the last event that the caller has seen; 0 for the beginning.
            limit: at most so many, up to 10,000.
            kinds: only these kinds, such as `alert.opened`; empty for all.
            subject: only events about this ref.

        Raises:
            Invalid: a negative position, or a limit out of bounds.
        """
        if after < 0 or not 1 <= limit <= _MAX_PAGE:
            raise Invalid(f"after={after}, limit={limit} is out of bounds", next_step=f"use limit 1 to {_MAX_PAGE}")
        return self.stores.events.read(
            after=after, limit=limit, kinds=kinds, project=self.scope.project, subject=subject
        )

    @operation("events.get", permission="events:read")
    def get(self, event: str) -> Event:
        """One event by its id or ref.

        Raises:
            NotFound: there is no such event in this project.
        """
        found = self.stores.events.get(event)
        if found.project != self.scope.project:
            raise NotFound(f"there is no event {event!r} here", next_step="loopwright events lists them")
        return found

    @operation("events.verify", permission="events:read")
    def verify(self) -> AuditReport:
        """Recompute the hash chain over all events: edited, removed and reordered ones are found."""
        return self.stores.events.verify()
