"""Statements for many rows at once, in the form that each database takes fastest.

SQLite runs one prepared statement for each row (or reads a list of numbers as JSON); PostgreSQL takes whole columns
as arrays (`unnest`). They go to the driver as they are: building a statement anew costs more than running it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection

from loopwright.store import Database
from loopwright.track.values import from_bits

Place = tuple[int, int]  # a run's number and a key's number
PointRow = tuple[int, int, int, int]  # series, step, time, bits

_FIND = {
    "sqlite": "SELECT s.run_seq, s.key_id, s.id, s.last_step, s.last_at, s.last_bits, s.tail_count "
    "FROM json_each(?) AS p CROSS JOIN run_series AS s "
    "WHERE s.run_seq = json_extract(p.value, '$[0]') AND s.key_id = json_extract(p.value, '$[1]')",
    # In the order of their numbers, so that two writers never wait for each other.
    "postgresql": "SELECT s.run_seq, s.key_id, s.id, s.last_step, s.last_at, s.last_bits, s.tail_count "
    "FROM unnest(%s::bigint[], %s::bigint[]) AS p (run_seq, key_id) "
    "JOIN run_series AS s ON s.run_seq = p.run_seq AND s.key_id = p.key_id ORDER BY s.id FOR UPDATE OF s",
}
_ADD_SERIES = {
    "sqlite": "INSERT INTO run_series (run_seq, key_id, last_step, last_at, last_bits, last_value) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    "postgresql": "INSERT INTO run_series (run_seq, key_id, last_step, last_at, last_bits, last_value) "
    "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::float8[]) "
    "ON CONFLICT DO NOTHING",
}
_ADD_POINTS = {
    "sqlite": "INSERT INTO run_points (series_id, step, at, bits) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    "postgresql": "INSERT INTO run_points (series_id, step, at, bits) "
    "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING",
}
_UPDATE_SERIES = {
    "sqlite": "UPDATE run_series SET last_step = ?, last_at = ?, last_bits = ?, last_value = ?, tail_count = ? "
    "WHERE id = ?",
    "postgresql": "UPDATE run_series AS s SET last_step = p.step, last_at = p.at_us, last_bits = p.bits, "
    "last_value = p.value, tail_count = p.tail_count FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], "
    "%s::float8[], %s::bigint[], %s::bigint[]) AS p (step, at_us, bits, value, tail_count, id) WHERE s.id = p.id",
}


class Series(msgspec.Struct, frozen=True):
    """A row of `run_series`: its number, its last point (step, time, bits), and about how long its tail is."""

    id: int
    last: tuple[int, int, int]
    tail_count: int


def lock_series(database: Database, tx: Connection, places: Sequence[Place]) -> dict[Place, Series]:
    """Those series that exist, held for this transaction."""
    if database.dialect == "sqlite":
        rows = tx.exec_driver_sql(_FIND["sqlite"], (msgspec.json.encode(places).decode(),))
    else:
        rows = tx.exec_driver_sql(_FIND["postgresql"], _transposed(places, 2))
    return {(row[0], row[1]): Series(row[2], (row[3], row[4], row[5]), row[6]) for row in rows.fetchall()}


def add_series(
    database: Database, tx: Connection, rows: Sequence[tuple[int, int, int, int, int, float | None]]
) -> None:
    """Add series with their last point, but for those that exist."""
    _many(database, tx, _ADD_SERIES, rows)


def add_points(database: Database, tx: Connection, rows: Sequence[PointRow]) -> None:
    """Add rows to `run_points`; a point that is there already stays as it is."""
    _many(database, tx, _ADD_POINTS, rows)


def update_series(database: Database, tx: Connection, changes: Mapping[int, Series]) -> None:
    """Write the last point and the tail's length of series, with the last value by series where it is comparable."""
    rows = [(*item.last, comparable(item.last[2]), item.tail_count, item.id) for item in changes.values()]
    _many(database, tx, _UPDATE_SERIES, rows)


def comparable(bits: int) -> float | None:
    """The value that searches compare; None for NaN, which no comparison matches."""
    value = from_bits(bits)
    return value if value == value else None


def _many(
    database: Database, tx: Connection, statements: Mapping[str, str], rows: Sequence[tuple[float | None, ...]]
) -> None:
    if not rows:
        return
    if database.dialect == "sqlite":
        tx.exec_driver_sql(statements["sqlite"], list(rows))
    else:
        tx.exec_driver_sql(statements["postgresql"], _transposed(rows, len(rows[0])))


def _transposed(rows: Iterable[Sequence[float | None]], width: int) -> tuple[list[float | None], ...]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return tuple(columns) or tuple([] for _ in range(width))
