"""One page of a search among experiments. There are few of them beside runs: what an index cannot answer is scanned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, and_, exists, not_, or_, select, type_coerce

from loopwright.core import Invalid
from loopwright.store import Database
from loopwright.track.model import ExperimentPage, View
from loopwright.track.reading import load_experiments
from loopwright.track.search.conditions import textual, timed
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.paging import SortColumn
from loopwright.track.search.tokens import Tokens
from loopwright.track.search.words import EXPERIMENTS, Comparison, Entity, Operator, SortKey
from loopwright.track.tables import experiment_tags, experiments

MAX_PAGE = 50_000
_NEWEST_FIRST = (SortKey(Entity.ATTRIBUTE, "updated_at", True), SortKey(Entity.ATTRIBUTE, "id", True))


class Question(msgspec.Struct, frozen=True):
    """What a search asks for; see `ExperimentService.search`."""

    project: str
    filter: str = ""
    view: View = View.ACTIVE
    limit: int = 1000
    order_by: tuple[str, ...] = ()
    after: str = ""


def search_experiments(database: Database, connection: Connection, asked: Question) -> ExperimentPage:
    """A page of experiments.

    Raises:
        Invalid: the filter, the order, the limit or the page token is malformed.
    """
    if not 0 < asked.limit <= MAX_PAGE:
        raise Invalid(f"a page of {asked.limit} experiments cannot be given", next_step=f"ask for 1 to {MAX_PAGE:,}")
    tokens = Tokens(database, ["experiments", asked.project, asked.filter, asked.view, asked.order_by])
    conditions = [_condition(item, database.dialect) for item in parse_filter(asked.filter, EXPERIMENTS)]
    columns = _columns(parse_order(asked.order_by, EXPERIMENTS), database.dialect)
    sorted_by = [column.value.label(f"sort_{number}") for number, column in enumerate(columns)]
    query = select(experiments, *sorted_by).where(experiments.c.project == asked.project, *conditions)
    if asked.view is not View.ALL:
        deleted = experiments.c.deleted_at
        query = query.where(deleted.is_(None) if asked.view is View.ACTIVE else deleted.is_not(None))
    if asked.after:
        query = query.where(_after(columns, tokens.read(connection, asked.after)))
    query = query.order_by(*(item.value.desc() if item.descending else item.value.asc() for item in columns))
    rows = list(connection.execute(query.limit(asked.limit + 1)))
    if len(rows) <= asked.limit:
        return ExperimentPage(load_experiments(connection, rows))
    last = rows[asked.limit - 1]._mapping
    following = tokens.write(connection, [last[f"sort_{number}"] for number in range(len(columns))])
    return ExperimentPage(load_experiments(connection, rows[:-1]), following)


def _condition(item: Comparison, dialect: str) -> ColumnElement[bool]:
    if item.entity is not Entity.TAG:
        if isinstance(item.value, float):
            return timed(experiments.c[item.key], item.operator, item.value)
        return textual(experiments.c[item.key], item, dialect)
    tags = experiment_tags.alias()
    mine = and_(tags.c.experiment_id == experiments.c.id, tags.c.key == item.key)
    if item.operator in (Operator.IS_NULL, Operator.IS_NOT_NULL):
        present = exists().where(mine)
        return not_(present) if item.operator is Operator.IS_NULL else present
    return exists().where(mine, textual(tags.c.value, item, dialect))


def _columns(keys: Sequence[SortKey], dialect: str) -> list[SortColumn]:
    for key in keys:
        if key.entity is not Entity.ATTRIBUTE:
            raise Invalid("experiments are ordered by attributes only", next_step="write it as 'name ASC'")
    named = {key.key for key in keys}
    return [_column(key, dialect) for key in (*keys, *(key for key in _NEWEST_FIRST if key.key not in named))]


def _column(key: SortKey, dialect: str) -> SortColumn:
    column: Any = experiments.c[key.key]
    if key.key in EXPERIMENTS.times.values():
        return SortColumn(type_coerce(column, BigInteger), key.descending)
    return SortColumn(column.collate("C") if dialect == "postgresql" else column, key.descending)


def _after(columns: Sequence[SortColumn], place: Sequence[Any]) -> ColumnElement[bool]:
    same: list[ColumnElement[bool]] = []
    alternatives: list[ColumnElement[bool]] = []
    for column, value in zip(columns, place, strict=True):
        alternatives.append(and_(*same, column.value < value if column.descending else column.value > value))
        same.append(column.value == value)
    return or_(*alternatives)
