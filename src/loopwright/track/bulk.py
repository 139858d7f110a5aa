"""Statements for many rows at once, in the form that each database takes fastest.

SQLite runs one prepared statement for each row, straight at its driver: what SQLAlchemy adds to a statement costs more
there than the statement. PostgreSQL takes whole columns as binary arrays (`unnest`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, groupby
from typing import Any, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import Connection

from loopwright.store import Database, refuse_nul
from loopwright.track.arrays import binary_arrays
from loopwright.track.values import from_bits

Place: TypeAlias = tuple[int, int]
"""A run's number and a key's number."""
StoredPoint: TypeAlias = tuple[int, int, int]
"""A point as it is stored: step, Unix microseconds, bits of the value. The greatest of a series is its last."""

# Two writers of one run wait for each other here, in the order of the runs, and nowhere else.
_LOCK_RUNS = {
    "sqlite": "SELECT id, project, seq, deleted_at FROM runs WHERE id IN (SELECT value FROM json_each(?))",
    "postgresql": "SELECT id, project, seq, deleted_at FROM runs WHERE id = ANY(%s) ORDER BY seq FOR NO KEY UPDATE",
}
_FIND_SERIES = {
    "sqlite": "SELECT key_id, id, last_step, last_at, last_bits, tail_count FROM run_series "
    "WHERE run_seq = ? AND key_id IN (SELECT value FROM json_each(?))",
    "postgresql": "SELECT s.run_seq, s.key_id, s.id, s.last_step, s.last_at, s.last_bits, s.tail_count "
    "FROM unnest(%s::bigint[], %s::bigint[]) AS p (run_seq, key_id) "
    # Held for those writers that do not lock the run: servers of the revision before.
    "JOIN run_series AS s ON s.run_seq = p.run_seq AND s.key_id = p.key_id ORDER BY s.id FOR NO KEY UPDATE OF s",
}
_PUT_SERIES = (
    "INSERT INTO run_series (last_step, last_at, last_bits, last_value, run_seq, key_id) VALUES {rows} "
    "ON CONFLICT (run_seq, key_id) DO UPDATE SET last_step = excluded.last_step, last_at = excluded.last_at, "
    "last_bits = excluded.last_bits, last_value = excluded.last_value "
    "WHERE (last_step, last_at, last_bits) < (excluded.last_step, excluded.last_at, excluded.last_bits)"
)
_PUT_ROWS = 125
_ADVANCE_SERIES = (
    "UPDATE run_series AS s SET last_step = p.step, last_at = p.at_us, last_bits = p.bits, "
    "last_value = p.value FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::float8[], %s::bigint[], "
    "%s::bigint[]) AS p (step, at_us, bits, value, run_seq, key_id) WHERE s.run_seq = p.run_seq "
    "AND s.key_id = p.key_id AND (s.last_step, s.last_at, s.last_bits) < (p.step, p.at_us, p.bits)"
)
_ADD_SERIES = {
    "sqlite": "INSERT INTO run_series (run_seq, key_id, last_step, last_at, last_bits, last_value) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    "postgresql": "INSERT INTO run_series (run_seq, key_id, last_step, last_at, last_bits, last_value, found_value) "
    "SELECT p.*, p.value FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], "
    "%s::float8[]) AS p (run_seq, key_id, step, at_us, bits, value) ON CONFLICT DO NOTHING",
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


class Series(NamedTuple):
    """A row of `run_series`: its number, its last point, and about how many rows its tail has."""

    id: int
    last: StoredPoint
    tail_count: int


class FoundRun(NamedTuple):
    """What a writer needs to know of a run."""

    id: str
    project: str
    seq: int
    deleted_at: int | None


def lock_runs(database: Database, tx: Connection, ids: Sequence[str]) -> dict[str, FoundRun]:
    """Those runs of any project that exist, deleted ones too, by id; held for this transaction.

    Raises:
        Invalid: an id holds a NUL character.
    """
    for id in ids:
        refuse_nul(id)
    if database.dialect == "sqlite":
        rows: Iterable[Sequence[Any]] = _sqlite(tx, _LOCK_RUNS["sqlite"], (msgspec.json.encode(ids).decode(),))
    else:
        rows = tx.exec_driver_sql(_LOCK_RUNS["postgresql"], (list(ids),)).fetchall()
    return {row[0]: FoundRun(*row) for row in rows}


def find_series(database: Database, tx: Connection, places: Sequence[Place]) -> dict[Place, Series]:
    """Those of the series, given in order, that exist."""
    found: dict[Place, Series] = {}
    if database.dialect != "sqlite":
        held = tx.exec_driver_sql(_FIND_SERIES["postgresql"], binary_arrays(tx, places)).fetchall()
        return {(row[0], row[1]): Series(row[2], (row[3], row[4], row[5]), row[6]) for row in held}
    for run, keys in groupby(places, key=lambda place: place[0]):
        wanted = msgspec.json.encode([key for _, key in keys]).decode()
        for key, number, step, at_us, bits, tail in _sqlite(tx, _FIND_SERIES["sqlite"], (run, wanted)):
            found[run, key] = Series(number, (step, at_us, bits), tail)
    return found


def add_series(database: Database, tx: Connection, lasts: Mapping[Place, StoredPoint]) -> None:
    """Add series with their last point, but for those that exist."""
    _many(database, tx, _ADD_SERIES, [(*place, *last, comparable(last[2])) for place, last in lasts.items()])


def add_points(database: Database, tx: Connection, rows: Sequence[tuple[int, int, int, int]]) -> None:
    """Add rows to `run_points`: series, step, time, bits. A point that is there already stays as it is."""
    _many(database, tx, _ADD_POINTS, rows)


def put_series(database: Database, tx: Connection, rows: Sequence[tuple[float | None, ...]]) -> None:
    """Move the last points of series forward, where these are later, and add the series that are missing.

    Args:
        rows: of each series step, time, bits, the value that searches compare, run number and key number.
    """
    if database.dialect == "sqlite":
        # Many rows a statement: a step back to Python for each costs as much as the row.
        cursor = tx.connection.cursor()
        for start in range(0, len(rows), _PUT_ROWS):
            some = rows[start : start + _PUT_ROWS]
            cursor.execute(_put_series(len(some)), list(chain.from_iterable(some)))
        return
    if tx.exec_driver_sql(_ADVANCE_SERIES, binary_arrays(tx, rows)).rowcount < len(rows):
        added = [(run, key, step, at_us, bits, value) for step, at_us, bits, value, run, key in rows]
        _many(database, tx, _ADD_SERIES, added)


@cache
def _put_series(count: int) -> str:
    return _PUT_SERIES.format(rows=", ".join(["(?, ?, ?, ?, ?, ?)"] * count))


def update_series(database: Database, tx: Connection, changed: Sequence[Series]) -> None:
    """Write the last point and the tail's length of series, in the order of their numbers."""
    rows = [(*last, comparable(last[2]), tail, number) for number, last, tail in sorted(changed)]
    _many(database, tx, _UPDATE_SERIES, rows)


def settle_series(tx: Connection, run_seq: int) -> None:
    """Let PostgreSQL's index of last values follow, for a run that is to change no more; see `tables.run_lasts`."""
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql("UPDATE run_series SET found_value = last_value WHERE run_seq = %s AND fresh", (run_seq,))


def comparable(bits: int) -> float | None:
    """The value that searches compare; None for NaN, which no comparison matches."""
    value = from_bits(bits)
    return value if value == value else None


def _sqlite(tx: Connection, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = tx.connection.cursor().execute(statement, values).fetchall()
    return rows


def _many(
    database: Database, tx: Connection, statements: Mapping[str, str], rows: Sequence[tuple[float | None, ...]]
) -> None:
    if not rows:
        return
    if database.dialect == "sqlite":
        tx.connection.cursor().executemany(statements["sqlite"], rows)
    else:
        tx.exec_driver_sql(statements["postgresql"], binary_arrays(tx, rows))
