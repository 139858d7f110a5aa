"""One page of a search for traces: filter and order as indexed SQL, the next page by key and not by offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, not_, or_, select, type_coerce

from loopwright.core import Invalid, is_id
from loopwright.store import Database, Keyset, LongText
from loopwright.track.search.conditions import headed, numeric, textual, timed
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.words import Comparison, Entity, Operator, SortKey, Vocabulary
from loopwright.track.tables import experiments
from loopwright.track.traces.model import NAME_TAG, TraceState
from loopwright.track.traces.tables import (
    trace_assessments,
    trace_metadata,
    trace_runs,
    trace_spans,
    trace_tags,
    traces,
)

_MAX_PAGE = 1000
_MAX_EXPERIMENTS = 1000
_STATES = {"in_progress": TraceState.RUNNING, "state_unspecified": TraceState.UNKNOWN}

_SPAN_COLUMNS = {"name": "name", "type": "kind", "status": "status", "content": "content"}

TRACES = Vocabulary(
    noun="traces",
    entities={
        **dict.fromkeys(("tag", "tags"), Entity.TAG),
        **dict.fromkeys(("metadata", "request_metadata"), Entity.METADATA),
        **dict.fromkeys(("attribute", "attributes", "trace"), Entity.ATTRIBUTE),
        "span": Entity.SPAN,
        "feedback": Entity.FEEDBACK,
        "expectation": Entity.EXPECTATION,
    },
    texts={
        **dict.fromkeys(("id", "trace_id", "request_id"), "id"),
        **dict.fromkeys(("state", "status"), "state"),
        **dict.fromkeys(("run", "run_id"), "run"),
        **dict.fromkeys(("client_request", "client_request_id"), "client_request"),
        "name": "name",
        "text": "text",
        "experiment_id": "experiment_id",
    },
    times={
        **dict.fromkeys(("started_at", "timestamp", "timestamp_ms", "request_time"), "started_at"),
        **dict.fromkeys(
            ("duration_ms", "execution_time", "execution_time_ms", "execution_duration", "latency"), "duration_ms"
        ),
    },
)


def search_traces(
    database: Database,
    connection: Connection,
    project: str,
    among: Sequence[str],
    filter: str,
    order_by: Sequence[str],
    limit: int,
    after: str,
) -> tuple[list[Row[Any]], str]:
    """The rows of a page, and the token of the page after it.

    Raises:
        Invalid: the filter, the order, the limit or the token is malformed.
    """
    if not 0 < limit <= _MAX_PAGE:
        raise Invalid(f"a page of {limit} traces cannot be given", next_step=f"ask for 1 to {_MAX_PAGE:,}")
    order = _keyset(parse_order(tuple(order_by), TRACES))
    query = select(traces).where(*_matches(database, project, among, filter))
    return order.page(connection, query, limit, after, [list(among), filter, list(order_by)])


def count_traces(database: Database, connection: Connection, project: str, among: Sequence[str], filter: str) -> int:
    """How many traces match.

    Raises:
        Invalid: the filter is malformed.
    """
    query = select(func.count()).select_from(traces).where(*_matches(database, project, among, filter))
    return connection.execute(query).scalar_one()


def _matches(database: Database, project: str, among: Sequence[str], filter: str) -> list[ColumnElement[bool]]:
    if len(among) > _MAX_EXPERIMENTS:
        raise Invalid(f"{len(among):,} experiments are too many", next_step=f"name up to {_MAX_EXPERIMENTS:,}")
    wanted = [_condition(item, database.dialect) for item in parse_filter(filter, TRACES)]
    return [traces.c.project == project, traces.c.experiment_id.in_(list(among)), *wanted]


def places(connection: Connection, project: str, named: Sequence[str] | None) -> Sequence[str]:
    """The ids of experiments that are given by id or name; of the project's newest, where none is."""
    mine = select(experiments.c.id, experiments.c.name).where(experiments.c.project == project)
    if named is None:
        newest = mine.where(experiments.c.deleted_at.is_(None)).order_by(experiments.c.id.desc())
        return [row.id for row in connection.execute(newest.limit(_MAX_EXPERIMENTS))]
    wanted = [name for name in named if not is_id(name)]
    if not wanted:
        return named
    ids = {row.name: row.id for row in connection.execute(mine.where(experiments.c.name.in_(wanted)))}
    return [ids.get(name, name) for name in named]


def _condition(item: Comparison, dialect: str) -> ColumnElement[bool]:
    if item.entity is Entity.TAG or item.entity is Entity.METADATA:
        return _keyed(item, dialect)
    if item.entity is Entity.FEEDBACK or item.entity is Entity.EXPECTATION:
        return _assessed(item)
    if item.entity is Entity.SPAN or item.key == "text":
        return _spanned(item, dialect)
    if item.key == "name":
        return _keyed(Comparison(Entity.TAG, NAME_TAG, item.operator, item.value), dialect)
    if item.key == "run":
        linked = textual(trace_runs.c.run, item, dialect)
        mine = trace_runs.c.trace == traces.c.id
        made = and_(traces.c.run != "", textual(traces.c.run, item, dialect))
        return or_(made, exists(select(trace_runs.c.trace).where(mine, linked)))
    column = traces.c[item.key]
    if not isinstance(item.value, float):
        return textual(column, _our_state(item) if item.key == "state" else item, dialect)
    compare = timed if item.key == "started_at" else numeric
    return compare(column, item.operator, item.value)


def _spanned(item: Comparison, dialect: str) -> ColumnElement[bool]:
    """What is true of one of a trace's spans, of those that were sent one by one."""
    key = "content" if item.key == "text" else item.key
    if key not in _SPAN_COLUMNS:
        raise Invalid(f"spans have no {key[:60]!r} to search by", next_step=f"use one of {', '.join(_SPAN_COLUMNS)}")
    column = type_coerce(trace_spans.c[_SPAN_COLUMNS[key]], LongText)
    asked = _lowered(item) if key == "status" else item
    return exists(
        select(trace_spans.c.trace).where(trace_spans.c.trace == traces.c.id, textual(column, asked, dialect))
    )


def _assessed(item: Comparison) -> ColumnElement[bool]:
    """What is true of one of a trace's assessments that count."""
    held = trace_assessments.c
    mine = (held.trace == traces.c.id, held.kind == str(item.entity), held.name == item.key, held.valid)
    if item.value is None:
        found = exists(select(held.id).where(*mine))
        return not_(found) if item.operator is Operator.IS_NULL else found
    texts = item.value if isinstance(item.value, tuple) else (str(item.value),)
    wanted = held.content.in_([content for text in texts for content in _contents(text)])
    differ = item.operator in (Operator.NE, Operator.NOT_IN)
    return exists(select(held.id).where(*mine, not_(wanted) if differ else wanted))


def _contents(text: str) -> list[dict[str, Any]]:
    """What an assessment holds whose value is written so: the text, or what it is in JSON (`true`, `0.5`)."""
    found: list[dict[str, Any]] = [{"value": text}]
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return found
    if isinstance(value, bool | int | float):
        found.append({"value": value})
        found += [{"value": float(value)}] if isinstance(value, int) and not isinstance(value, bool) else []
    return found


def _lowered(item: Comparison) -> Comparison:
    value = item.value
    return msgspec.structs.replace(
        item, value=tuple(text.lower() for text in value) if isinstance(value, tuple) else str(value).lower()
    )


def _our_state(item: Comparison) -> Comparison:
    """MLflow writes states in capitals, and has other words for two of them."""
    if isinstance(item.value, tuple):
        return msgspec.structs.replace(item, value=tuple(_state(text) for text in item.value))
    return msgspec.structs.replace(item, value=_state(str(item.value)))


def _state(text: str) -> str:
    return str(_STATES.get(text.lower(), text.lower()))


def _keyed(item: Comparison, dialect: str) -> ColumnElement[bool]:
    table = trace_tags if item.entity is Entity.TAG else trace_metadata
    asked = () if item.value is None else (headed(table.c.head, table.c.value, item, dialect),)
    mine = (table.c.trace == traces.c.id, table.c.key == item.key)
    found = exists(select(table.c.trace).where(*mine, *asked))
    return not_(found) if item.operator is Operator.IS_NULL else found


def _column(key: SortKey) -> Any:
    """What a key of an order sorts by; None where a trace has no such thing."""
    if key.entity in (Entity.SPAN, Entity.FEEDBACK, Entity.EXPECTATION) or (
        key.entity is Entity.ATTRIBUTE and key.key == "text"
    ):
        raise Invalid(f"cannot order traces by {key.entity}.{key.key[:60]}", next_step="order by an attribute or a tag")
    if key.entity is Entity.ATTRIBUTE and key.key != "name":
        return traces.c[key.key]
    table = trace_metadata if key.entity is Entity.METADATA else trace_tags
    name = NAME_TAG if key.entity is Entity.ATTRIBUTE else key.key
    query = select(table.c.value).where(table.c.trace == traces.c.id, table.c.key == name)
    return query.correlate(traces).scalar_subquery()


def _keyset(keys: Sequence[SortKey]) -> Keyset:
    """The keys of an order bound to SQL; it ends in the newest time and the id, so it is total."""
    columns: list[tuple[Any, bool]] = [(_column(key), key.descending) for key in keys]
    named = {key.key for key in keys if key.entity is Entity.ATTRIBUTE}
    columns += [(traces.c.started_at, True)] if "started_at" not in named else []
    return Keyset(columns + ([(traces.c.id, False)] if "id" not in named else []))
