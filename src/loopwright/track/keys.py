"""Interned keys: the name of a metric, param or tag is stored once and referred to by number."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy import column as sql_column

from loopwright.store import Database
from loopwright.track.tables import run_keys

_CHUNK = 500
_known: WeakKeyDictionary[Database, dict[str, int]] = WeakKeyDictionary()
_lock = threading.Lock()


def find_keys(database: Database, connection: Connection, keys: Iterable[str]) -> dict[str, int]:
    """The numbers of those keys that exist."""
    wanted = set(keys)
    with _lock:
        known = _known.setdefault(database, {})
        found = {key: known[key] for key in wanted if key in known}
    missing = sorted(wanted - found.keys())
    fresh = _read(connection, missing)
    return {**found, **fresh}


class ByNumbers:
    """A query for the rows whose columns are each one of some numbers.

    The numbers are one bound value a column, however many there are, and the statement is made once for each kind of
    database: to make it again for each call costs more than to run it.
    """

    def __init__(self, query: Select[Any], *columns: ColumnElement[Any]) -> None:
        self._query, self._columns = query, columns
        self._made: dict[str, Select[Any]] = {}

    def rows(self, connection: Connection, *numbers: Collection[int], **more: Any) -> Sequence[Any]:
        """The rows, all at once, as row by row costs a call each.

        Args:
            numbers: those of each column, in order.
            more: what else the query takes.
        """
        dialect = connection.dialect.name
        if dialect not in self._made:
            given = (_is_given(dialect, column, f"given{place}") for place, column in enumerate(self._columns))
            self._made[dialect] = self._query.where(*given)
        values = {
            f"given{place}": list(some) if dialect == "postgresql" else f"[{','.join(map(str, some))}]"
            for place, some in enumerate(numbers)
        }
        return connection.execute(self._made[dialect], {**values, **more}).all()


def _is_given(dialect: str, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    if dialect == "postgresql":
        return column == any_(bindparam(name, type_=ARRAY(BigInteger)))
    each = func.json_each(bindparam(name, type_=Text)).table_valued(sql_column("value", Integer))
    return column.in_(select(each.c.value))


def key_names(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """The keys behind numbers."""
    return {row.id: row.key for row in _NAMES.rows(connection, ids)}


def intern_keys(database: Database, tx: Connection, keys: Iterable[str]) -> dict[str, int]:
    """The numbers of keys; those that are new get one. Call it once in a transaction.

    Only keys that were there before the transaction are remembered between calls: the new ones may be rolled back.
    """
    wanted = set(keys)
    with _lock:
        known = _known.setdefault(database, {})
        if wanted <= known.keys():
            return {key: known[key] for key in wanted}
    found = find_keys(database, tx, wanted)
    with _lock:
        _known[database].update(found)
    missing = sorted(wanted - found.keys())
    if not missing:
        return found
    tx.execute(database.upsert(run_keys, {}, ["key"]), [{"key": key} for key in missing])
    return {**found, **_read(tx, missing)}


def _read(connection: Connection, keys: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(keys), _CHUNK):
        rows = connection.execute(
            select(run_keys.c.key, run_keys.c.id).where(run_keys.c.key.in_(keys[start : start + _CHUNK]))
        )
        found.update({row.key: row.id for row in rows})
    return found


_NAMES = ByNumbers(select(run_keys.c.id, run_keys.c.key), run_keys.c.id)
