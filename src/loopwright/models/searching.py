"""One page of a registry search: filter and order as indexed SQL, the next page by key and not by offset."""

from __future__ import annotations

import base64
import binascii
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, exists, func, not_, or_, select

from loopwright.core import Invalid, digest_value
from loopwright.models.filters import MODEL_WORDS, VERSION_WORDS, Comparison, Words, parse_filter, parse_order
from loopwright.models.tables import model_tags, model_versions, models
from loopwright.store import Database

_HEAD = 100
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_MAX_MODELS, _MAX_VERSIONS = 1000, 200_000
_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_Order = tuple[tuple[str, bool], ...]


class _Token(msgspec.Struct, frozen=True):
    """Where a page ended: the values of the order's columns, and a mark of the search that they belong to."""

    search: str
    values: list[str | int]


def search_models(
    database: Database,
    connection: Connection,
    project: str,
    filter: str,
    order_by: tuple[str, ...],
    limit: int,
    after: str,
    without: Mapping[str, str],
) -> tuple[list[Row[Any]], str]:
    """The rows of a page of names, and the token of the page after it.

    Raises:
        Invalid: the filter, the order, the limit or the token is malformed.
    """
    order = parse_order(order_by, MODEL_WORDS)
    order += () if "name" in dict(order) else (("name", False),)
    query = select(models).where(models.c.project == project, models.c.deleted_at.is_(None))
    query = query.where(*_conditions(database, models, project, filter, MODEL_WORDS))
    query = query.where(*_without(models, project, without))
    return _page(connection, query, models, order, _limited(limit, _MAX_MODELS), after, (filter, order_by))


def search_versions(
    database: Database,
    connection: Connection,
    project: str,
    filter: str,
    order_by: tuple[str, ...],
    limit: int,
    after: str,
    without: Mapping[str, str],
) -> tuple[list[Row[Any]], str]:
    """The rows of a page of versions, and the token of the page after it. Raises as `search_models` does."""
    order = parse_order(order_by, VERSION_WORDS) or (("updated_at", True),)
    order += () if "name" in dict(order) else (("name", False),)
    order += () if "version" in dict(order) else (("version", True),)
    query = select(model_versions).where(model_versions.c.project == project, model_versions.c.deleted_at.is_(None))
    query = query.where(*_conditions(database, model_versions, project, filter, VERSION_WORDS))
    query = query.where(*_without(model_versions, project, without))
    return _page(connection, query, model_versions, order, _limited(limit, _MAX_VERSIONS), after, (filter, order_by))


def _limited(limit: int, most: int) -> int:
    if not 0 < limit <= most:
        raise Invalid(
            "Invalid value for request parameter max_results. It must be a positive integer of "
            f"at most {most}, but got value {limit}"
        )
    return limit


def _page(
    connection: Connection, query: Select[Any], table: Table, order: _Order, limit: int, after: str, search: Any
) -> tuple[list[Row[Any]], str]:
    mark = digest_value(search)[:16]
    if after:
        query = query.where(_beyond(table, order, _read_token(after, mark, order)))
    for name, falls in order:
        query = query.order_by(table.c[name].desc() if falls else table.c[name].asc())
    rows = list(connection.execute(query.limit(limit + 1)))
    if len(rows) <= limit:
        return rows, ""
    last = rows[limit - 1]
    return rows[:limit], _write_token(_Token(mark, [_kept(getattr(last, name)) for name, _ in order]))


def _beyond(table: Table, order: _Order, values: list[Any]) -> ColumnElement[bool]:
    """The condition that a row comes after the one with these values."""
    alternatives: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for (name, falls), value in zip(order, values, strict=True):
        column = table.c[name]
        alternatives.append(and_(*same, column < value if falls else column > value))
        same.append(column == value)
    return or_(*alternatives)


def _write_token(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode()


def _read_token(text: str, mark: str, order: _Order) -> list[Any]:
    try:
        token = msgspec.msgpack.decode(base64.urlsafe_b64decode(text.encode()), type=_Token)
        if token.search == mark and len(token.values) == len(order):
            return [_given(name, value) for (name, _), value in zip(order, token.values, strict=True)]
    except (binascii.Error, ValueError, OverflowError, msgspec.DecodeError):
        pass
    raise Invalid("Invalid page token: it does not belong to this search", next_step="start again without one")


def _kept(value: Any) -> str | int:
    """A column's value as a token keeps it: a time as microseconds since 1970."""
    kept: str | int = (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value
    return kept


def _given(name: str, value: str | int) -> Any:
    if isinstance(value, str) != (name == "name") or (isinstance(value, int) and not 0 <= value < 1 << 62):
        raise ValueError(name)
    return _EPOCH + value * _MICROSECOND if isinstance(value, int) and name.endswith("_at") else value


def _conditions(database: Database, table: Table, project: str, filter: str, words: Words) -> list[ColumnElement[bool]]:
    return [_condition(database, table, project, item) for item in parse_filter(filter, words)]


def _condition(database: Database, table: Table, project: str, item: Comparison) -> ColumnElement[bool]:
    if item.entity == "attribute":
        return _compare(table.c[item.key], item, database.dialect)
    tags = _tags_of(table, project, item.key)
    compared = _compare(model_tags.c.value, item, database.dialect)
    if item.operator == "=":
        compared = and_(model_tags.c.head == str(item.value)[:_HEAD], compared)
    return exists(tags.where(compared))


def _tags_of(table: Table, project: str, key: str) -> Select[Any]:
    version = model_versions.c.version if table is model_versions else 0
    return select(model_tags.c.key).where(
        model_tags.c.project == project,
        model_tags.c.key == key,
        model_tags.c.name == table.c.name,
        model_tags.c.version == version,
    )


def _without(table: Table, project: str, tags: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """The conditions that the name does not have these tags."""
    columns = model_tags.c
    having = [
        exists(
            select(columns.key).where(
                columns.project == project,
                columns.key == key,
                columns.head == value[:_HEAD],
                columns.name == table.c.name,
                columns.version == 0,
            )
        )
        for key, value in tags.items()
    ]
    return [not_(and_(*having))] if having else []


def _compare(column: Any, item: Comparison, dialect: str) -> ColumnElement[bool]:
    value: Any = item.value
    found: ColumnElement[bool]
    match item.operator:
        case "IN":
            found = column.in_(value)
        case "NOT IN":
            found = not_(column.in_(value))
        case "LIKE":
            found = _like(column, value, dialect)
        case "ILIKE":
            found = _like(func.lower(column), value.lower(), dialect)
        case sign:
            found = _SIGNS[sign](column, value)
    return found


def _like(column: Any, pattern: str, dialect: str) -> ColumnElement[bool]:
    """`%` for any text and `_` for any letter; nothing escapes them. SQLite's LIKE ignores case; its GLOB does not."""
    if dialect == "sqlite":
        signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
        glob = "".join(signs.get(letter, letter) for letter in pattern)
        return column.op("GLOB", is_comparison=True)(glob)  # type: ignore[no-any-return]  # untyped operator
    return column.like(pattern.replace("\\", "\\\\"))  # type: ignore[no-any-return]  # a column of any table
