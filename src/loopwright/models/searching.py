"""One page of a registry search: filter and order as indexed SQL, the next page by key and not by offset."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, exists, func, not_, select

from loopwright.core import Invalid
from loopwright.models.filters import MODEL_WORDS, VERSION_WORDS, Comparison, Words, parse_filter, parse_order
from loopwright.models.tables import model_tags, model_versions, models
from loopwright.store import Database, Keyset

_HEAD = 100
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
    return Keyset([(table.c[name], falls) for name, falls in order]).page(connection, query, limit, after, search)


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
