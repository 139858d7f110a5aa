"""From a parsed filter to SQL conditions that indexes can answer.

Each comparison with a metric, param or tag becomes `runs.seq IN (SELECT run_seq ...)` over an index that starts with
the key; what the user wrote reaches the database as bound values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, not_, select

from loopwright.track.search.language import Comparison, Entity, Operator
from loopwright.track.tables import run_params, run_series, run_tags, runs
from loopwright.track.values import from_micros, head_of, is_whole_head

_MICROS_PER_MS = 1000
_TEXT_TABLES = {Entity.PARAM: run_params, Entity.TAG: run_tags}
_MAX_MICROS = 253_402_300_799_999_999  # the end of the year 9999
_MIN_MICROS = -62_135_596_800_000_000


def keys_of(comparisons: tuple[Comparison, ...]) -> set[str]:
    """The keys of metrics, params and tags that a filter names."""
    return {item.key for item in comparisons if item.entity is not Entity.ATTRIBUTE}


def condition(item: Comparison, key_ids: Mapping[str, int], dialect: str) -> ColumnElement[bool]:
    """The SQL condition of one comparison. A key that no run ever had matches nothing."""
    if item.entity is Entity.ATTRIBUTE:
        return _attribute(item, dialect)
    if item.key not in key_ids:
        return false()
    key_id = key_ids[item.key]
    if item.entity is Entity.METRIC:
        where = and_(run_series.c.key_id == key_id, _numeric(run_series.c.last_value, item.operator, item.value))
        return runs.c.seq.in_(select(run_series.c.run_seq).where(where))
    table = _TEXT_TABLES[item.entity]
    where = and_(table.c.key_id == key_id, _headed(table.c.head, table.c.value, item, dialect))
    return runs.c.seq.in_(select(table.c.run_seq).where(where))


def _attribute(item: Comparison, dialect: str) -> ColumnElement[bool]:
    column = runs.c[item.key]
    if isinstance(item.value, float):
        micros = int(min(max(item.value * _MICROS_PER_MS, _MIN_MICROS), _MAX_MICROS))
        return _numeric(column, item.operator, from_micros(micros))
    return _textual(column, item, dialect)


def _headed(head: Any, value: Any, item: Comparison, dialect: str) -> ColumnElement[bool]:
    """Equality is asked of the indexed head first; only a long text needs a look at the whole value."""
    if item.operator is Operator.EQ and isinstance(item.value, str):
        same_head: ColumnElement[bool] = head == head_of(item.value)
        return same_head if is_whole_head(item.value) else and_(same_head, value == item.value)
    if item.operator is Operator.IN and isinstance(item.value, tuple):
        return and_(head.in_([head_of(text) for text in item.value]), value.in_(item.value))
    return _textual(value, item, dialect)


def _numeric(column: Any, operator: Operator, value: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool]
    match operator:
        case Operator.EQ:
            found = column == value
        case Operator.NE:
            found = column != value
        case Operator.LT:
            found = column < value
        case Operator.LE:
            found = column <= value
        case Operator.GT:
            found = column > value
        case _:
            found = column >= value
    return found


def _textual(column: Any, item: Comparison, dialect: str) -> ColumnElement[bool]:
    found: ColumnElement[bool]
    match item.operator:
        case Operator.EQ:
            found = column == item.value
        case Operator.NE:
            found = column != item.value
        case Operator.IN:
            found = column.in_(item.value)
        case Operator.NOT_IN:
            found = not_(column.in_(item.value))
        case Operator.LIKE:
            found = _like(column, str(item.value), dialect)
        case _:
            found = _like_any_case(column, str(item.value), dialect)
    return found


def _like(column: Any, pattern: str, dialect: str) -> ColumnElement[bool]:
    """SQLite's LIKE ignores case; its GLOB does not."""
    if dialect == "sqlite":
        return column.op("GLOB", is_comparison=True)(_glob(pattern))  # type: ignore[no-any-return]  # untyped operator
    return column.like(_literal_backslash(pattern))  # type: ignore[no-any-return]  # a column of any table


def _like_any_case(column: Any, pattern: str, dialect: str) -> ColumnElement[bool]:
    """Case is ignored for the letters A to Z on both databases; others compare as the database does."""
    if dialect == "sqlite":
        return func.lower(column).op("GLOB", is_comparison=True)(_glob(_ascii_lower(pattern)))
    return column.ilike(_literal_backslash(pattern))  # type: ignore[no-any-return]  # a column of any table


def _ascii_lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _glob(pattern: str) -> str:
    """A LIKE pattern as a GLOB pattern."""
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(signs.get(letter, letter) for letter in pattern)


def _literal_backslash(pattern: str) -> str:
    """PostgreSQL reads a backslash in a pattern as an escape; the filter language has none."""
    return pattern.replace("\\", "\\\\")
