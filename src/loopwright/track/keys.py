"""Interned keys: the name of a metric, param or tag is stored once and referred to by number."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import Any, cast
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Connection, Integer, any_, func, literal, select
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


def key_names(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """The keys behind numbers."""
    query = select(run_keys.c.id, run_keys.c.key).where(is_among(connection, run_keys.c.id, ids))
    return {row.id: row.key for row in connection.execute(query)}


def is_among(connection: Connection, column: Any, numbers: Collection[int]) -> ColumnElement[bool]:
    """Whether a column is one of these numbers: one bound value, however many there are, so that the statement is
    prepared once."""
    if connection.dialect.name == "postgresql":
        return cast("ColumnElement[bool]", column == any_(literal(list(numbers), ARRAY(BigInteger))))
    text = f"[{','.join(map(str, numbers))}]"
    each = func.json_each(text).table_valued(sql_column("value", Integer))
    return cast("ColumnElement[bool]", column.in_(select(each.c.value)))


def intern_keys(database: Database, tx: Connection, keys: Iterable[str]) -> dict[str, int]:
    """The numbers of keys; those that are new get one. Call it once in a transaction.

    Only keys that were there before the transaction are remembered between calls: the new ones may be rolled back.
    """
    wanted = set(keys)
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
