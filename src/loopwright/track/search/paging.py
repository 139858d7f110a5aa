"""The order of a search, and the page after a given place, by key and not by offset.

The order ends in the run's start, newest first, and its id, as MLflow's does, so it is total. Runs with a value of the
first key come first, then those whose metric is NaN, then those without one: these are phases, asked one after the
other, so that within a phase an index gives the order. A place is the phase and the values of its sort columns in the
last run of a page: pages neither repeat nor skip runs that stay as they are, whatever becomes of that run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, ColumnElement, FromClause, and_, case, exists, func, not_, or_, select, type_coerce

from loopwright.track.search.compiler import KEYED, attribute, is_time
from loopwright.track.search.planning import Order
from loopwright.track.search.words import Entity, SortKey
from loopwright.track.tables import run_lasts, runs

_MAY_MISS = "ended_at"
VALUE, NAN, MISSING = 0, 1, 2
LEADING = {
    entity: (run_lasts if entity is Entity.METRIC else table).alias("sorted_by") for entity, table in KEYED.items()
}


class SortColumn(msgspec.Struct, frozen=True):
    """One expression to order by."""

    value: Any
    descending: bool


class Phase(msgspec.Struct, frozen=True):
    """The runs that are alike in having the first key: where to find them and how they are ordered."""

    number: int
    source: FromClause
    where: tuple[ColumnElement[bool], ...]
    columns: tuple[SortColumn, ...]

    def selected(self) -> list[Any]:
        """The values that a place is remembered by."""
        return [column.value.label(f"sort_{number}") for number, column in enumerate(self.columns)]

    def clauses(self) -> list[Any]:
        """What to order by."""
        return [column.value.desc() if column.descending else column.value.asc() for column in self.columns]

    def after(self, place: Sequence[Any]) -> ColumnElement[bool]:
        """The condition that a run comes after a place."""
        alternatives: list[ColumnElement[bool]] = []
        same: list[ColumnElement[bool]] = []
        for column, value in zip(self.columns, place, strict=True):
            if value is None:  # nobody in this group has one: the flag before it says so
                continue
            alternatives.append(and_(*same, column.value < value if column.descending else column.value > value))
            same.append(column.value == value)
        # The first bound is implied, but only said like this an index can begin with it.
        first, value = self.columns[0], place[0]
        bound = first.value <= value if first.descending else first.value >= value
        return and_(bound, or_(*alternatives))


def order_of(keys: Sequence[SortKey]) -> Order:
    """How runs can be walked in the order of these keys."""
    if not keys:
        return Order.BY_INDEX
    if keys[0].entity is Entity.METRIC or keys[0].key == "started_at":
        return Order.BY_INDEX
    return Order.SORTED if keys[0].entity is Entity.ATTRIBUTE else Order.BY_GROUPS


def phases(order: Sequence[SortKey], key_ids: Mapping[str, int], dialect: str, walk: bool) -> list[Phase]:
    """The phases of an order. With `walk`, the first key's own table leads, so that its index gives the order."""
    keys = known(order, key_ids)
    rest = [column for key in keys[1:] for column in _later_columns(key, key_ids, dialect)]
    tail = (*rest, *_tail(keys))
    if not keys:
        return [Phase(VALUE, runs, (), tail)]
    if keys[0].entity is Entity.ATTRIBUTE:
        return _attribute_phases(keys[0], tail, dialect)
    return _keyed_phases(keys[0], key_ids[keys[0].key], tail, walk)


def known(order: Sequence[SortKey], key_ids: Mapping[str, int]) -> list[SortKey]:
    """The keys of an order without those that no run ever had."""
    return [key for key in order if key.entity is Entity.ATTRIBUTE or key.key in key_ids]


def _tail(keys: Sequence[SortKey]) -> tuple[SortColumn, ...]:
    """Newest first, then by id; a start that was asked for already need not be asked again."""
    id = SortColumn(runs.c.id, False)
    if any(key.key == "started_at" and key.entity is Entity.ATTRIBUTE for key in keys):
        return (id,)
    return (SortColumn(type_coerce(runs.c.started_at, BigInteger), True), id)


def _attribute_phases(key: SortKey, tail: tuple[SortColumn, ...], dialect: str) -> list[Phase]:
    columns = (SortColumn(_attribute(key.key, dialect), key.descending), *tail)
    if key.key != _MAY_MISS:
        return [Phase(VALUE, runs, (), columns)]
    there = runs.c[key.key].is_not(None)
    return [Phase(VALUE, runs, (there,), columns), Phase(MISSING, runs, (not_(there),), tail)]


def _keyed_phases(key: SortKey, key_id: int, tail: tuple[SortColumn, ...], walk: bool) -> list[Phase]:
    table: Any = LEADING[key.entity]
    there = and_(table.c.run_seq == runs.c.seq, table.c.key_id == key_id)
    missing = Phase(MISSING, runs, (not_(exists().where(there)),), tail)
    source = table.join(runs, table.c.run_seq == runs.c.seq) if walk else runs
    of_key = table.c.key_id == key_id

    def column(name: str) -> Any:
        return table.c[name] if walk else select(table.c[name]).where(there).scalar_subquery()

    def having(condition: Any) -> tuple[ColumnElement[bool], ...]:
        return (of_key, condition) if walk else (exists().where(there, condition),)

    if key.entity is not Entity.METRIC:
        texts = tuple(SortColumn(column(name), key.descending) for name in ("head", "value"))
        return [Phase(VALUE, source, (of_key,) if walk else (exists().where(there),), (*texts, *tail)), missing]
    value = table.c.last_value
    numbers = (SortColumn(column("last_value"), key.descending), *tail)
    return [
        Phase(VALUE, source, having(value.is_not(None)), numbers),
        Phase(NAN, source, having(value.is_(None)), tail),
        missing,
    ]


def _later_columns(key: SortKey, key_ids: Mapping[str, int], dialect: str) -> list[SortColumn]:
    """A key behind the first: whether the run has it, then its value."""
    if key.entity is Entity.ATTRIBUTE:
        column = _attribute(key.key, dialect)
        found = [SortColumn(column, key.descending)]
        return [_flag(case((column.is_(None), MISSING), else_=VALUE)), *found] if key.key == _MAY_MISS else found
    table: Any = KEYED[key.entity].alias()
    there = and_(table.c.run_seq == runs.c.seq, table.c.key_id == key_ids[key.key])
    value = table.c.last_value if key.entity is Entity.METRIC else table.c.value
    state = select(case((value.is_(None), NAN), else_=VALUE)).where(there).scalar_subquery()
    return [
        _flag(func.coalesce(state, MISSING)),
        SortColumn(select(value).where(there).scalar_subquery(), key.descending),
    ]


def _flag(value: Any) -> SortColumn:
    return SortColumn(value, False)


def _attribute(key: str, dialect: str) -> Any:
    column = attribute(key)
    if is_time(key):
        return type_coerce(column, BigInteger)
    return column.collate("C") if dialect == "postgresql" else column
