"""One page of a search for logged models: filter and order as indexed SQL, the next page by key and not by offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    and_,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
)

from loopwright.core import Invalid
from loopwright.store import Database, Keyset
from loopwright.track.logged.model import DatasetFilter, LoggedOrder
from loopwright.track.logged.tables import logged_metrics, logged_models, logged_params, logged_tags
from loopwright.track.search.conditions import headed, numeric, textual, timed
from loopwright.track.search.language import parse_filter
from loopwright.track.search.words import Comparison, Entity, Operator, Vocabulary

_MAX_PAGE = 1000
_MAX_EXPERIMENTS = 1000
_TEXT_TABLES = {Entity.PARAM: logged_params, Entity.TAG: logged_tags}

LOGGED_MODELS = Vocabulary(
    noun="logged models",
    entities={
        **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
        **dict.fromkeys(("param", "params"), Entity.PARAM),
        **dict.fromkeys(("tag", "tags"), Entity.TAG),
        **dict.fromkeys(("attribute", "attributes"), Entity.ATTRIBUTE),
    },
    texts={
        **dict.fromkeys(("id", "model_id"), "id"),
        **dict.fromkeys(("name", "model_name"), "name"),
        **dict.fromkeys(("source_run", "source_run_id"), "source_run"),
        "model_type": "model_type",
        "status": "status",
        "experiment_id": "experiment_id",
    },
    times={
        **dict.fromkeys(("created_at", "creation_timestamp", "creation_time", "creation_timestamp_ms"), "created_at"),
        **dict.fromkeys(
            ("updated_at", "last_updated_timestamp", "last_updated_time", "last_updated_timestamp_ms"), "updated_at"
        ),
    },
)


def search_logged(
    database: Database,
    connection: Connection,
    project: str,
    experiments: Sequence[str],
    filter: str,
    datasets: Sequence[DatasetFilter],
    order_by: Sequence[LoggedOrder],
    limit: int,
    after: str,
) -> tuple[list[Row[Any]], str]:
    """The rows of a page, and the token of the page after it.

    Raises:
        Invalid: the filter, the order, the limit or the token is malformed.
    """
    _check_bounds(experiments, limit)
    order = _Order(order_by)
    query = (
        select(logged_models)
        .select_from(order.source)
        .where(
            logged_models.c.project == project,
            logged_models.c.experiment_id.in_(list(experiments)),
            logged_models.c.deleted_at.is_(None),
            *_conditions(filter, datasets, database.dialect),
        )
    )
    asked = [list(experiments), filter, list(datasets), list(order_by)]
    return Keyset(order.columns).page(connection, query, limit, after, asked)


def _check_bounds(experiments: Sequence[str], limit: int) -> None:
    if not 0 < limit <= _MAX_PAGE:
        raise Invalid(f"a page of {limit} logged models cannot be given", next_step=f"ask for 1 to {_MAX_PAGE:,}")
    if len(experiments) > _MAX_EXPERIMENTS:
        raise Invalid(f"{len(experiments):,} experiments are too many", next_step=f"name up to {_MAX_EXPERIMENTS:,}")


def _conditions(filter: str, datasets: Sequence[DatasetFilter], dialect: str) -> list[ColumnElement[bool]]:
    comparisons = parse_filter(filter, LOGGED_MODELS)
    found = [_condition(item, datasets, dialect) for item in comparisons]
    if datasets and not any(item.entity is Entity.METRIC for item in comparisons):
        found.append(_measured(_with_one_of(datasets)))
    return found


def _condition(item: Comparison, datasets: Sequence[DatasetFilter], dialect: str) -> ColumnElement[bool]:
    if item.entity is Entity.ATTRIBUTE:
        column = logged_models.c[item.key]
        return (
            timed(column, item.operator, item.value) if isinstance(item.value, float) else _text(column, item, dialect)
        )
    if item.entity is Entity.METRIC:
        found = _measured(logged_metrics.c.key == item.key, *_compared(item), _with_one_of(datasets))
    else:
        table = _TEXT_TABLES[item.entity]
        asked = () if item.value is None else (headed(table.c.head, table.c.value, item, dialect),)
        mine = (table.c.model == logged_models.c.id, table.c.key == item.key)
        found = exists(select(table.c.model).where(*mine, *asked))
    return not_(found) if item.operator is Operator.IS_NULL else found


def _text(column: Any, item: Comparison, dialect: str) -> ColumnElement[bool]:
    """MLflow writes statuses in capitals, with what they are the status of."""
    if item.key == "status" and isinstance(item.value, str):
        plain = item.value.lower().removeprefix("logged_model_").replace("upload_failed", "failed")
        item = msgspec.structs.replace(item, value=plain)
    return textual(column, item, dialect)


def _compared(item: Comparison) -> list[ColumnElement[bool]]:
    return [] if item.value is None else [numeric(logged_metrics.c.value, item.operator, item.value)]


def _measured(*where: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(logged_metrics.c.model).where(logged_metrics.c.model == logged_models.c.id, *where))


def _with_one_of(datasets: Sequence[DatasetFilter]) -> ColumnElement[bool]:
    columns = logged_metrics.c
    named = [
        and_(columns.dataset == item.name, *([columns.dataset_digest == item.digest] if item.digest else []))
        for item in datasets
    ]
    return or_(*named) if named else literal(True)


class _Order:
    """The keys of an order bound to SQL; it ends in the time of making and the id, so it is total."""

    def __init__(self, keys: Sequence[LoggedOrder]) -> None:
        self.source: FromClause = logged_models
        self.columns: list[tuple[Any, bool]] = []
        seen: set[str] = set()
        for number, key in enumerate(keys):
            self.columns.append((self._column(number, key, seen), key.descending))
        self.columns += [(logged_models.c.created_at, True)] if "created_at" not in seen else []
        self.columns += [(logged_models.c.id, False)] if "id" not in seen else []

    def _column(self, number: int, key: LoggedOrder, seen: set[str]) -> Any:
        entity, dot, name = key.field.partition(".")
        if not dot:
            found = LOGGED_MODELS.attribute(key.field)
            if found is None:
                raise Invalid(
                    f"Invalid order by field name: {key.field[:60]}", next_step="use an attribute or metrics.KEY"
                )
            seen.add(found)
            return logged_models.c[found]
        if entity != "metrics":
            raise Invalid(f"Invalid order by field name: {key.field[:60]}. Only metrics are supported.")
        newest = _newest(name, key).subquery(f"sort_{number}")
        joined = and_(newest.c.model == logged_models.c.id, newest.c.place == 1)
        self.source = self.source.outerjoin(newest, joined)
        return newest.c.value


def _newest(name: str, key: LoggedOrder) -> Any:
    """Each model's newest point of a metric, perhaps only as measured with one dataset: `place` 1 is the newest."""
    columns = logged_metrics.c
    newest_first = (columns.at.desc(), columns.step.desc(), columns.run.asc(), columns.dataset, columns.dataset_digest)
    place = func.row_number().over(partition_by=columns.model, order_by=newest_first).label("place")
    query = select(columns.model, columns.value, place).where(columns.key == name)
    if key.dataset:
        query = query.where(columns.dataset == key.dataset)
    return query.where(columns.dataset_digest == key.dataset_digest) if key.dataset_digest else query
