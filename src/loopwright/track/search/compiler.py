"""From a comparison of the filter language to what a database can answer it with.

Each becomes a probe: a condition on one run, answered by a look-up under the run's number. One that an index can
narrow becomes a range, too: the numbers of all runs for which it holds. `planning` chooses between walking runs in
order and probing each, and reading the ranges and meeting them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, FromClause, Select, String, and_, exists, false, literal, not_, or_, select, true

from loopwright.track.search.conditions import headed, is_range, numeric, textual, timed
from loopwright.track.search.words import DATASET_KEYS, NUMBER_OPERATORS, PRESENCE, RUNS, Comparison, Entity, Operator
from loopwright.track.tables import run_inputs, run_lasts, run_params, run_series, run_tags, runs, unindexed

KEYED = {Entity.METRIC: run_series, Entity.PARAM: run_params, Entity.TAG: run_tags}
# Made once, since an alias costs more than a comparison. Each comparison is a query of its own within the search, and
# may have the same name as another for what it reads.
_COMPARED: dict[Entity, FromClause] = {
    Entity.METRIC: run_lasts.alias("compared_metrics"),
    Entity.PARAM: run_params.alias("compared_params"),
    Entity.TAG: run_tags.alias("compared_tags"),
}
_COMPARED_INPUTS, _COMPARED_RUNS = run_inputs.alias("compared_inputs"), runs.alias("compared_runs")


class Test(msgspec.Struct, frozen=True):
    """A compiled comparison: a condition on a row of `runs`; and the numbers of the runs that fulfil it, if an index
    has them together."""

    probe: ColumnElement[bool]
    range: Select[Any] | None = None


def keys_of(items: Iterable[Any]) -> set[str]:
    """The keys of metrics, params and tags that comparisons or sort keys name."""
    return {item.key for item in items if item.entity in KEYED}


def compile_test(item: Comparison, key_ids: Mapping[str, int], project: str, dialect: str) -> Test:
    """One comparison. A key that no run ever had is missing everywhere."""
    if item.entity is Entity.ATTRIBUTE:
        return Test(_attribute(item, runs, dialect), _range_of_runs(item, project, dialect))
    if item.entity is Entity.DATASET:
        return _dataset(item, dialect)
    if item.key not in key_ids:
        return Test(true() if item.operator is Operator.IS_NULL else false())
    return _keyed(item, key_ids[item.key], dialect)


def _keyed(item: Comparison, key_id: int, dialect: str) -> Test:
    table: Any = _COMPARED[item.entity]
    mine, key = table.c.run_seq == runs.c.seq, table.c.key_id == key_id
    if item.operator in PRESENCE:
        present = exists().where(mine, key)
        return Test(not_(present) if item.operator is Operator.IS_NULL else present)
    holds = holds_in(table, item, dialect)
    ranged = item.operator is not Operator.NE if item.entity is Entity.METRIC else is_range(item)
    return Test(exists().where(mine, key, holds), select(table.c.run_seq).where(key, holds) if ranged else None)


def holds_in(table: Any, item: Comparison, dialect: str) -> ColumnElement[bool]:
    """A comparison as a condition on rows of the table that keeps what is compared."""
    if item.entity is Entity.METRIC:
        return _metric(table.c.last_value, item)
    return headed(table.c.head, table.c.value, item, dialect)


def _metric(value: Any, item: Comparison) -> ColumnElement[bool]:
    """NaN is kept as NULL: it is unequal to every number."""
    found = numeric(value, item.operator, item.value)
    return or_(found, value.is_(None)) if item.operator is Operator.NE else found


def _dataset(item: Comparison, dialect: str) -> Test:
    table: Any = _COMPARED_INPUTS
    column = table.c[DATASET_KEYS[item.key]]
    holds = and_(column != "", textual(column, item, dialect))
    ranged = item.operator in (Operator.EQ, Operator.IN) and item.key != "context"
    return Test(
        exists().where(table.c.run_seq == runs.c.seq, holds),
        select(table.c.run_seq).where(holds).distinct() if ranged else None,
    )


def _attribute(item: Comparison, table: Any, dialect: str) -> ColumnElement[bool]:
    column = attribute(item.key, table)
    if item.operator in PRESENCE:
        missing: ColumnElement[bool] = column.is_(None)
        return missing if item.operator is Operator.IS_NULL else not_(missing)
    if isinstance(item.value, float):
        return timed(column, item.operator, item.value)
    return textual(column, item, dialect)


def _range_of_runs(item: Comparison, project: str, dialect: str) -> Select[Any] | None:
    """The runs with this attribute, where an index of `runs` begins with it."""
    if (item.key, item.operator) not in _INDEXED:
        return None
    table: Any = _COMPARED_RUNS
    of_project = table.c.project if item.key in _BY_PROJECT else unindexed(table.c.project)
    return select(table.c.seq).where(of_project == project, _attribute(item, table, dialect))


_BY_PROJECT = {"name", "status", "started_at"}  # in whose indexes the project stands first
_INDEXED = {(key, operator) for key in ("id", "name", "parent", "status") for operator in (Operator.EQ, Operator.IN)}
_INDEXED |= {("started_at", operator) for operator in NUMBER_OPERATORS - {Operator.NE}}


def attribute(key: str, table: Any = runs) -> Any:
    """The column of an attribute; a run's artifact address is made from the ids that it consists of."""
    if key != "artifact_uri":
        return table.c[key]
    head = literal("mlflow-artifacts:/", String).op("||")(table.c.experiment_id)
    return head.op("||")(literal("/", String)).op("||")(table.c.id).op("||")(literal("/artifacts", String))


def is_time(key: str) -> bool:
    """Whether an attribute is a time, kept as whole microseconds."""
    return key in RUNS.times.values()
