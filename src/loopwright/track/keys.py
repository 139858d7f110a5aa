"""Interned keys: the name of a metric, param or tag is stored once and referred to by number."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
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
    cast,
    func,
    select,
    true,
)
from sqlalchemy import column as sql_column

from loopwright.store import Database
from loopwright.track.tables import run_keys

_CHUNK = 500
_known: WeakKeyDictionary[Database, dict[str, int]] = WeakKeyDictionary()
_lock = threading.Lock()


def find_keys(database: Database, connection: Connection, keys: Iterable[str]) -> dict[str, int]:
    """The numbers of those keys that exist; outside of a transaction that writes, all of them stay."""
    wanted = set(keys)
    with _lock:
        known = _known.setdefault(database, {})
        found = {key: known[key] for key in wanted if key in known}
    missing = sorted(wanted - found.keys())
    fresh = _read(connection, missing)
    if fresh and not database.writing:
        with _lock:
            _known[database].update(fresh)
    return {**found, **fresh}


class ByNumbers:
    """A query for the rows whose columns are each one of some numbers.

    The numbers are one bound value a column, however many there are, and the statement is made once for each kind of
    database: to make it again for each call costs more than to run it. On PostgreSQL one number has a statement of its
    own: it takes any other for ten numbers, for which it would read small tables whole, and go on so as they grow.
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
        form = _form(connection, numbers)
        if form not in self._made:
            self._made[form] = self._restricted(form)
        return connection.execute(self._made[form], {**_given(form, numbers), **more}).all()

    def columns(self, connection: Connection, *numbers: Collection[int]) -> list[list[Any]]:
        """The same as columns, of whole numbers and texts: they come as JSON, at a third of what rows cost."""
        form = _form(connection, numbers)
        made = f"{form}, columns"
        if made not in self._made:
            self._made[made] = self.as_columns(form)
        found = connection.execute(self._made[made], _given(form, numbers)).one()
        return [_LIST.decode(text) for text in found]

    def as_columns(self, form: str) -> Select[Any]:
        """The query with one row: of each column, all that it has as a JSON array.

        Args:
            form: as `_form` gives it.
        """
        rows = self._restricted(form).subquery()
        columns: list[Any] = [_as_json(form, column) for column in rows.c]
        return select(*columns)

    def _restricted(self, form: str) -> Select[Any]:
        given = (_is_given(form, column, f"given{place}") for place, column in enumerate(self._columns))
        return self._query.where(*given)


class Together:
    """Queries for rows of which one column, the same in meaning, is one of some numbers: asked with one statement."""

    def __init__(self, *queries: ByNumbers) -> None:
        self._queries = queries
        self._made: dict[str, Select[Any]] = {}

    def columns(self, connection: Connection, numbers: Collection[int]) -> list[list[Any]]:
        """The columns of the first query, then those of the second, and so on, as `ByNumbers.columns` gives them."""
        form = _form(connection, [numbers])
        if form not in self._made:
            parts = [query.as_columns(form).subquery() for query in self._queries]
            both: Any = parts[0]
            for part in parts[1:]:
                both = both.join(part, true())
            self._made[form] = select(*(column for part in parts for column in part.c)).select_from(both)
        found = connection.execute(self._made[form], _given(form, [numbers])).one()
        return [_LIST.decode(text) for text in found]


_LIST = msgspec.json.Decoder(list[Any])
_ONE = "postgresql, one"


def _form(connection: Connection, numbers: Sequence[Collection[int]]) -> str:
    """The kind of database, and whether each column is given one number."""
    dialect = connection.dialect.name
    return _ONE if dialect == "postgresql" and all(len(some) == 1 for some in numbers) else dialect


def _as_json(form: str, column: ColumnElement[Any]) -> ColumnElement[str]:
    """All values of a column as the text of a JSON array."""
    if form == "sqlite":
        return func.json_group_array(column)
    return func.coalesce(cast(func.array_to_json(func.array_agg(column)), Text), "[]")


def _given(form: str, numbers: Sequence[Collection[int]]) -> dict[str, Any]:
    """The numbers as one text for each column: a driver would look at each of them."""
    if form == _ONE:
        return {f"given{place}": next(iter(some)) for place, some in enumerate(numbers)}
    text = "[{}]" if form == "sqlite" else "{{{}}}"
    return {f"given{place}": text.format(",".join(map(str, some))) for place, some in enumerate(numbers)}


def _is_given(form: str, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    if form == _ONE:
        return column == bindparam(name, type_=BigInteger)
    if form == "postgresql":
        return column == any_(cast(bindparam(name, type_=Text), ARRAY(BigInteger)))
    each = func.json_each(bindparam(name, type_=Text)).table_valued(sql_column("value", Integer))
    return column.in_(select(each.c.value))


def key_names(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """The keys behind numbers."""
    return {row.id: row.key for row in _NAMES.rows(connection, ids)}


def known_keys(database: Database, keys: Collection[str]) -> dict[str, int] | None:
    """The numbers of keys, where this process has met all of them; it asks nobody."""
    with _lock:
        known = _known.get(database, {})
        return {key: known[key] for key in keys} if known.keys() >= set(keys) else None


def intern_keys(database: Database, tx: Connection, keys: Iterable[str]) -> dict[str, int]:
    """The numbers of keys; those that are new get one. Call it once in a transaction.

    Only keys that were there before the transaction are remembered between calls: the new ones may be rolled back.
    """
    wanted = set(keys)
    known = known_keys(database, wanted)
    if known is not None:
        return known
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
