"""One page of a search for evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, not_, select

from loopwright.core import Invalid
from loopwright.store import Database, Keyset
from loopwright.track.evalsets.tables import eval_set_experiments, eval_set_tags, eval_sets
from loopwright.track.search.conditions import headed, textual, timed
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.words import Comparison, Entity, Operator, Vocabulary

MAX_PAGE = 1000

EVAL_SETS = Vocabulary(
    noun="evaluation sets",
    entities={
        **dict.fromkeys(("tag", "tags"), Entity.TAG),
        **dict.fromkeys(("attribute", "attributes", "dataset"), Entity.ATTRIBUTE),
    },
    texts={
        "name": "name",
        **dict.fromkeys(("id", "dataset_id"), "id"),
        "created_by": "created_by",
        **dict.fromkeys(("updated_by", "last_updated_by"), "updated_by"),
    },
    times={
        **dict.fromkeys(("created_at", "created_time"), "created_at"),
        **dict.fromkeys(("updated_at", "last_update_time"), "updated_at"),
    },
)


def search_sets(
    database: Database,
    connection: Connection,
    project: str,
    among: Sequence[str] | None,
    filter: str,
    order_by: Sequence[str],
    limit: int,
    after: str,
) -> tuple[list[Row[Any]], str]:
    """The rows of a page, newest first unless ordered otherwise, and the token of the page after it.

    Raises:
        Invalid: the filter, the order, the limit or the token is malformed.
    """
    if not 0 < limit <= MAX_PAGE:
        raise Invalid(f"a page of {limit} evaluation sets cannot be given", next_step=f"ask for 1 to {MAX_PAGE:,}")
    wanted = [_condition(item, database.dialect) for item in parse_filter(filter, EVAL_SETS)]
    query = select(eval_sets).where(eval_sets.c.project == project, *wanted)
    if among is not None:
        used = select(eval_set_experiments.c.eval_set).where(eval_set_experiments.c.experiment_id.in_(list(among)))
        query = query.where(eval_sets.c.id.in_(used))
    return _keyset(order_by).page(connection, query, limit, after, [among, filter, list(order_by)])


def _condition(item: Comparison, dialect: str) -> ColumnElement[bool]:
    if item.entity is Entity.TAG:
        held = eval_set_tags.c
        asked = () if item.value is None else (headed(held.head, held.value, item, dialect),)
        found = exists(select(held.eval_set).where(held.eval_set == eval_sets.c.id, held.key == item.key, *asked))
        return not_(found) if item.operator is Operator.IS_NULL else found
    column = eval_sets.c[item.key]
    if isinstance(item.value, float):
        return timed(column, item.operator, item.value)
    return textual(column, item, dialect)


def _keyset(order_by: Sequence[str]) -> Keyset:
    keys = parse_order(tuple(order_by), EVAL_SETS)
    if any(key.entity is not Entity.ATTRIBUTE for key in keys):
        raise Invalid("evaluation sets are not ordered by tags", next_step="order by name, created_at or updated_at")
    columns: list[tuple[Any, bool]] = [(eval_sets.c[key.key], key.descending) for key in keys]
    columns += [] if any(key.key == "created_at" for key in keys) else [(eval_sets.c.created_at, True)]
    return Keyset(columns if any(key.key == "id" for key in keys) else [*columns, (eval_sets.c.id, False)])
