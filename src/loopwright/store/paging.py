"""Pages of a query by key: the next one begins behind the last row of the one before, however far in that is.

A token says where a page ended and which search it belongs to. It grants nothing: whoever makes one up only asks for
another place of a search that they may do anyway.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, String, and_, or_

from loopwright.core import Invalid, digest_value
from loopwright.store.db.schema import UtcTime

_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_LATEST, _LARGEST = 1 << 60, 1 << 63
_MARK = 16


class _Token(msgspec.Struct, frozen=True):
    search: str
    values: list[str | int | float | None]


class Keyset:
    """A total order over rows: columns or expressions, each with whether it falls; together they differ in each row.

    What has no value comes last either way. A column that is declared not to be NULL is ordered by an index on it.
    """

    def __init__(self, columns: Sequence[tuple[Any, bool]]) -> None:
        self._columns = list(columns)

    def page(
        self, connection: Connection, query: Select[Any], limit: int, after: str, asked: Any
    ) -> tuple[list[Row[Any]], str]:
        """At most `limit` rows of a query behind the place of a token, and the token of the page after them.

        Args:
            after: the token of the page before; empty for the first page.
            asked: all that the search was asked for, so that no token of another search is taken.

        Raises:
            Invalid: the token is not one of this search.
        """
        mark = digest_value(asked)[:_MARK]
        if after:
            query = query.where(self._beyond(self._read(after, mark)))
        labels = [column.label(f"sort_value_{number}") for number, (column, _) in enumerate(self._columns)]
        rows = list(connection.execute(query.add_columns(*labels).order_by(*self._clauses()).limit(limit + 1)))
        return (rows, "") if len(rows) <= limit else (rows[:limit], self._write(rows[limit - 1], mark))

    def _clauses(self) -> list[ColumnElement[Any]]:
        found: list[ColumnElement[Any]] = []
        for column, falls in self._columns:
            found += [column.is_(None)] if _may_miss(column) else []
            found.append(column.desc() if falls else column.asc())
        return found

    def _beyond(self, values: Sequence[Any]) -> ColumnElement[bool]:
        """The condition that a row comes after the one with these values."""
        alternatives: list[ColumnElement[bool]] = []
        same: list[ColumnElement[bool]] = []
        for (column, falls), value in zip(self._columns, values, strict=True):
            if value is not None:
                later = column < value if falls else column > value
                alternatives.append(and_(*same, or_(later, column.is_(None)) if _may_miss(column) else later))
            same.append(column.is_(None) if value is None else column == value)
        return or_(*alternatives)

    def _write(self, row: Row[Any], mark: str) -> str:
        values = (row._mapping[f"sort_value_{number}"] for number in range(len(self._columns)))
        kept = [(value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value for value in values]
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(_Token(mark, kept))).decode()

    def _read(self, text: str, mark: str) -> list[Any]:
        try:
            token = msgspec.msgpack.decode(base64.urlsafe_b64decode(text.encode()), type=_Token)
            if token.search == mark and len(token.values) == len(self._columns):
                return [_given(column, value) for (column, _), value in zip(self._columns, token.values, strict=True)]
        except (binascii.Error, ValueError, OverflowError, msgspec.DecodeError):
            pass
        raise Invalid("Invalid page token: it does not belong to this search", next_step="start again without one")


def _may_miss(column: Any) -> bool:
    return bool(getattr(column, "nullable", True))


def _given(column: Any, value: str | int | float | None) -> Any:
    """A token's value as its column holds it.

    Raises:
        ValueError: it is of another type, so the token is not ours.
    """
    if value is None and _may_miss(column):
        return None
    if isinstance(column.type, String):
        if isinstance(value, str):
            return value
    elif isinstance(column.type, UtcTime):
        if isinstance(value, int) and 0 <= value < _LATEST:
            return _EPOCH + value * _MICROSECOND
    elif isinstance(value, float) or (isinstance(value, int) and -_LARGEST <= value < _LARGEST):
        return value
    raise ValueError("a value of another type")
