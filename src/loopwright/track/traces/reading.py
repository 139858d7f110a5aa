"""From rows to records of traces: one query per kind of thing, however many traces are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from loopwright.core import NotFound
from loopwright.track.owned_texts import read_texts
from loopwright.track.traces.model import Assessment, AssessmentKind, Trace, TraceState
from loopwright.track.traces.tables import (
    trace_assessments,
    trace_metadata,
    trace_runs,
    trace_spans,
    trace_tags,
    traces,
)

_CHUNK = 500


def the_trace(connection: Connection, project: str, trace: str) -> Row[Any]:
    """The row of a trace.

    Raises:
        NotFound: there is no such trace in this project.
    """
    query = select(traces).where(traces.c.id == trace, traces.c.project == project)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"Trace with ID '{trace[:80]}' not found.", next_step="search the traces")
    return row


def load_traces(connection: Connection, rows: Sequence[Row[Any]]) -> list[Trace]:
    """The records of rows of traces, in their order."""
    ids = [row.id for row in rows]
    tags, metadata = read_texts(connection, trace_tags, ids), read_texts(connection, trace_metadata, ids)
    linked, assessments = _linked(connection, ids), _assessments(connection, ids)
    spans = _spans(connection, ids)
    return [
        Trace(
            id=row.id,
            experiment_id=row.experiment_id,
            state=TraceState(row.state),
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            run=row.run,
            linked_runs=tuple(linked.get(row.id, ())),
            client_request=row.client_request,
            request_preview=row.request_preview,
            response_preview=row.response_preview,
            actor=row.actor,
            tags=tags.get(row.id, {}),
            metadata=metadata.get(row.id, {}),
            assessments=tuple(assessments.get(row.id, ())),
            spans=spans.get(row.id, 0),
        )
        for row in rows
    ]


def _linked(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for some in _chunks(ids):
        query = select(trace_runs).where(trace_runs.c.trace.in_(some)).order_by(trace_runs.c.run)
        for row in connection.execute(query):
            found.setdefault(row.trace, []).append(row.run)
    return found


def _spans(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in _chunks(ids):
        query = select(trace_spans.c.trace, func.count()).where(trace_spans.c.trace.in_(some))
        found.update((id, count) for id, count in connection.execute(query.group_by(trace_spans.c.trace)))
    return found


def assessment_of(row: Row[Any]) -> Assessment:
    """The record of an assessment's row."""
    return Assessment(**{**row._mapping, "kind": AssessmentKind(row.kind), "valid": bool(row.valid)})


def _assessments(connection: Connection, ids: Sequence[str]) -> dict[str, list[Assessment]]:
    columns, found = trace_assessments.c, dict[str, list[Assessment]]()
    for some in _chunks(ids):
        query = select(trace_assessments).where(columns.trace.in_(some)).order_by(columns.created_at, columns.id)
        for row in connection.execute(query):
            found.setdefault(row.trace, []).append(assessment_of(row))
    return found


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
