"""The event log: append in the caller's transaction, seal in order, read by position."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from loopwright.core import Clock, Invalid, NotFound, Scope, SystemClock, Unavailable, new_id
from loopwright.store.db.database import Database
from loopwright.store.events import sealing
from loopwright.store.events.model import AuditReport, Event
from loopwright.store.events.tables import cursors, events

_SEAL_BATCH = 10_000
_INSERT = events.insert()
_log = logging.getLogger(__name__)
_KIND = re.compile(r"[a-z][a-z_]*\.[a-z][a-z_]*")


class EventLog:
    """Facts in the order in which they were sealed.

    An event is durable and visible exactly when the change that it tells of is: it is written in that transaction.
    Sealing follows within a second and gives positions 1, 2, 3… without gaps, so that a reader that keeps the last
    position it saw misses nothing, however late a slow transaction commits. Thread-safe.
    """

    def __init__(self, db: Database, clock: Clock | None = None) -> None:
        self._db, self._clock = db, clock or SystemClock()

    def append(
        self,
        tx: Connection,
        kind: str,
        subject: str,
        scope: Scope,
        evidence: Mapping[str, Any] | None = None,
        cause: str | None = None,
    ) -> Event:
        """Record a fact in the caller's transaction.

        Args:
            tx: the transaction of the change that the event tells of.
            kind: `noun.verb_past`, such as `run.finished`.
            subject: the ref of what it happened to.
            scope: who did it, in which project, and why.
            evidence: what the decision or change rested on; anything that JSON can hold.
            cause: the ref of the event, or the id of the request, that led here; by default the scope's.

        Raises:
            Invalid: `kind` has another form.
        """
        if not _KIND.fullmatch(kind):
            raise Invalid(f"{kind!r} is not a kind of event", next_step="use noun.verb_past, such as run.finished")
        event = Event(
            id=new_id(),
            kind=kind,
            at=self._clock.now(),
            recorded_at=datetime.now(UTC),
            project=scope.project,
            actor=scope.actor,
            subject=subject,
            cause=scope.cause if cause is None else cause,
            evidence=dict(evidence or {}),
        )
        tx.execute(_INSERT, {name: getattr(event, name) for name in Event.__struct_fields__})
        return event

    def seal(self, limit: int = _SEAL_BATCH) -> int:
        """Give positions and chain hashes to events that have none, oldest first; how many were sealed.

        Safe when several processes do it at once.
        """
        with self._db.read() as connection:
            if not sealing.has_unsealed(connection):
                return 0
        with self._db.begin() as tx:
            self._db.lock(tx, "event chain")
            return sealing.seal(tx, limit)

    def read(
        self,
        after: int = 0,
        limit: int = 1000,
        kinds: Sequence[str] = (),
        project: str | None = None,
        subject: str = "",
    ) -> list[Event]:
        """Sealed events behind position `after`, in order.

        Seals first, so that what was committed before is seen, unless the database cannot be written just now.
        """
        self._seal_if_free()
        query = _filtered(kinds, project, subject).where(events.c.position > after)
        return self._fetch(query.order_by(events.c.position).limit(limit))

    def latest(
        self,
        limit: int = 100,
        before: int | None = None,
        kinds: Sequence[str] = (),
        project: str | None = None,
        subject: str = "",
    ) -> list[Event]:
        """The newest sealed events first; `before` is the position of the last one of the page before this one."""
        self._seal_if_free()
        query = _filtered(kinds, project, subject).where(events.c.position.is_not(None))
        if before is not None:
            query = query.where(events.c.position < before)
        return self._fetch(query.order_by(events.c.position.desc()).limit(limit))

    def get(self, id: str) -> Event:
        """One event by its id or its ref, sealed or not.

        Raises:
            NotFound: there is none.
        """
        identifier = id.removeprefix("event:")
        found = self._fetch(select(events).where(events.c.id == identifier))
        if not found:
            raise NotFound(f"there is no event {identifier!r}", next_step="loopwright events lists them")
        return found[0]

    def head(self) -> int:
        """The position of the newest sealed event; 0 while there is none."""
        with self._db.read() as connection:
            return connection.execute(select(func.max(events.c.position))).scalar_one() or 0

    def cursor(self, reader: str) -> int:
        """The position up to which `reader` has handled events; 0 at first."""
        with self._db.read() as connection:
            return self.cursor_in(connection, reader)

    def cursor_in(self, tx: Connection, reader: str) -> int:
        """`cursor` inside the caller's transaction, to see whether another process of the same reader was quicker."""
        query = select(cursors.c.position).where(cursors.c.reader == bindparam("reader"))
        return tx.execute(query, {"reader": reader}).scalar_one_or_none() or 0

    def save_cursor(self, tx: Connection, reader: str, position: int) -> None:
        """Keep a reader's place, in the transaction of what it did because of those events."""
        row = {"reader": reader, "position": position}
        tx.execute(self._db.upsert(cursors, row, ["reader"], ["position"]))

    def verify(self) -> AuditReport:
        """Walk the whole chain; memory does not grow with it."""
        self._seal_if_free()
        with self._db.read() as connection:
            end, fault = sealing.walk(connection)
            if fault is None:
                return AuditReport(True, end.position, end.hash)
            first_bad = None
            if fault.link is not None:
                first_bad = _event(connection.execute(select(events).where(events.c.id == fault.link.id)).one())
            return AuditReport(False, end.position, end.hash, first_bad, fault.problem)

    def _seal_if_free(self) -> None:
        if self._db.writing:
            return
        try:
            while self.seal() >= _SEAL_BATCH:
                pass
        except Unavailable as error:
            # A full or busy database can still be read; what is not sealed yet comes with a later read.
            _log.warning("events could not be sealed: %s", error)

    def _fetch(self, query: Select[Any]) -> list[Event]:
        with self._db.read() as connection:
            return [_event(row) for row in connection.execute(query)]


def _filtered(kinds: Sequence[str], project: str | None, subject: str) -> Select[Any]:
    query = select(events)
    if kinds:
        query = query.where(events.c.kind.in_(kinds) if len(kinds) > 1 else events.c.kind == kinds[0])
    if project is not None:
        query = query.where(events.c.project == project)
    if subject:
        query = query.where(events.c.subject == subject)
    return query


def _event(row: Row[Any]) -> Event:
    return Event(**row._mapping)
