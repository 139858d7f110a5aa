"""Comparisons of one column with what was asked: the same answers on SQLite and PostgreSQL.

What the user wrote reaches the database as bound values only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, func, not_, or_, type_coerce

from loopwright.track.search.words import Comparison, Operator
from loopwright.track.values import head_of, is_whole_head

_MICROS_PER_MS = 1000
_INT64 = 1 << 63
_LAST_CHARACTER = 0x10FFFF


def numeric(column: Any, operator: Operator, value: Any) -> ColumnElement[bool]:
    """A number compared with a number."""
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


def timed(column: Any, operator: Operator, milliseconds: float) -> ColumnElement[bool]:
    """A time compared in whole milliseconds, in which clients see it, while it is kept in microseconds."""
    micros = type_coerce(column, BigInteger)
    below, above = micros_of(milliseconds)
    match operator:
        case Operator.EQ:
            return and_(micros >= below, micros < above)
        case Operator.NE:
            return or_(micros < below, micros >= above)
        case Operator.LT:
            return micros < below
        case Operator.LE:
            return micros < above
        case Operator.GT:
            return micros >= above
        case _:
            return micros >= below


def micros_of(milliseconds: float) -> tuple[int, int]:
    """The first microsecond that is not before a time, and the first one after it."""
    return _micros(milliseconds, math.ceil), _micros(milliseconds, lambda value: math.floor(value) + 1)


def _micros(milliseconds: float, rounded: Callable[[float], int]) -> int:
    if math.isinf(milliseconds):
        return _INT64 - 1 if milliseconds > 0 else -_INT64
    return max(-_INT64, min(rounded(milliseconds) * _MICROS_PER_MS, _INT64 - 1))


def headed(head: Any, value: Any, item: Comparison, dialect: str) -> ColumnElement[bool]:
    """Equality is asked of the indexed head first; only a long text needs a look at the whole value."""
    if item.operator is Operator.EQ and isinstance(item.value, str):
        same_head: ColumnElement[bool] = head == head_of(item.value)
        return same_head if is_whole_head(item.value) else and_(same_head, value == item.value)
    if item.operator is Operator.IN and isinstance(item.value, tuple):
        heads = head.in_(sorted({head_of(text) for text in item.value}))
        return heads if all(map(is_whole_head, item.value)) else and_(heads, value.in_(item.value))
    if item.operator is Operator.LIKE and (bounds := _bounds(str(item.value))) is not None:
        return and_(head >= bounds[0], head < bounds[1], textual(value, item, dialect))
    return textual(value, item, dialect)


def is_range(item: Comparison) -> bool:
    """Whether `headed` narrows an index on the head to a range of it."""
    if item.operator is Operator.LIKE:
        return _bounds(str(item.value)) is not None
    return item.operator in (Operator.EQ, Operator.IN)


def _bounds(pattern: str) -> tuple[str, str] | None:
    """The heads between which every match of a pattern lies, if it begins with characters that stand for themselves."""
    start = head_of(pattern[: next((at for at, letter in enumerate(pattern) if letter in "%_"), len(pattern))])
    if not start or ord(start[-1]) == _LAST_CHARACTER:
        return None
    following = ord(start[-1]) + 1
    return start, start[:-1] + chr(0xE000 if 0xD800 <= following < 0xE000 else following)


def textual(column: Any, item: Comparison, dialect: str) -> ColumnElement[bool]:
    """A text compared with a text or texts."""
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
    """Case is ignored for the letters A to Z on both databases; others compare as they are."""
    if dialect == "sqlite":
        return func.lower(column).op("GLOB", is_comparison=True)(_glob(_ascii_lower(pattern)))
    return column.collate("C").ilike(_literal_backslash(pattern))  # type: ignore[no-any-return]  # as above


def _ascii_lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _glob(pattern: str) -> str:
    """A LIKE pattern as a GLOB pattern."""
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(signs.get(letter, letter) for letter in pattern)


def _literal_backslash(pattern: str) -> str:
    """PostgreSQL reads a backslash in a pattern as an escape; the filter language has none."""
    return pattern.replace("\\", "\\\\")
