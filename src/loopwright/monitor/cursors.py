"""How far the journals have been read: moved in the transaction of what was done with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from loopwright.monitor.tables import monitor_cursors
from loopwright.store import Cursor, Database


class Place(msgspec.Struct, frozen=True):
    """Where a reader stands: the step's number, a cursor per journal, and where a planned step ends."""

    reader: str
    number: int = 0
    position: dict[str, Any] = {}
    planned: dict[str, Any] | None = None
    moved_at: datetime | None = None

    def cursor(self, journal: str) -> Cursor:
        """The cursor in one journal."""
        return msgspec.convert(self.position.get(journal, {}), Cursor)

    def end(self, journal: str) -> Cursor:
        """Where the planned step ends in one journal."""
        return msgspec.convert((self.planned or {}).get(journal, {}), Cursor)


def place_of(db: Database, reader: str) -> Place:
    """Where a reader stands."""
    query = select(monitor_cursors).where(monitor_cursors.c.reader == bindparam("reader"))
    with db.read() as connection:
        row = connection.execute(query, {"reader": reader}).first()
    if row is None:
        return Place(reader)
    return Place(reader, row.number, row.position, row.planned, row.moved_at)


def move(db: Database, tx: Connection, place: Place, cursors: Mapping[str, Cursor], at: datetime) -> bool:
    """Move a reader on from `place`. False if another was quicker: then the caller must change nothing."""
    position = {journal: msgspec.to_builtins(cursor) for journal, cursor in cursors.items()}
    return _save(db, tx, place, {"number": place.number + 1, "position": position, "planned": None, "moved_at": at})


def plan(db: Database, tx: Connection, place: Place, cursors: Mapping[str, Cursor], at: datetime) -> bool:
    """Note down where the step from `place` will end. False if another was quicker."""
    planned = {journal: msgspec.to_builtins(cursor) for journal, cursor in cursors.items()}
    values = {"number": place.number + 1, "position": place.position, "planned": planned, "moved_at": at}
    return _save(db, tx, place, values)


def _save(db: Database, tx: Connection, place: Place, values: dict[str, Any]) -> bool:
    table = monitor_cursors
    if place.number == 0:
        row = {"reader": place.reader, **values}
        # An INSERT's rowcount is not told by every driver; a returned row is.
        return tx.execute(db.upsert(table, row, ["reader"]).returning(table.c.reader)).first() is not None
    changed = update(table).where(table.c.reader == place.reader, table.c.number == place.number).values(values)
    return bool(tx.execute(changed).rowcount)
