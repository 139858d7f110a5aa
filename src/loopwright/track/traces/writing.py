"""Statements that change traces, each inside a transaction that its caller opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, select

from loopwright.core import Invalid
from loopwright.track.files.model import OwnerKind, parse_owner
from loopwright.track.files.tables import kept_files
from loopwright.track.traces.model import NewTrace
from loopwright.track.traces.tables import (
    trace_assessments,
    trace_metadata,
    trace_runs,
    trace_spans,
    trace_tags,
    traces,
)
from loopwright.track.values import MAX_TEXT, check_text

_EPOCH, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MAX_DURATION_MS = 1 << 53


def trace_row(wanted: NewTrace) -> dict[str, Any]:
    """The columns of a trace that its maker tells.

    Raises:
        Invalid: the id has another form, or something cannot be stored.
    """
    try:
        parse_owner(f"{OwnerKind.TRACE}:{wanted.id}")
    except Invalid:
        raise Invalid(f"{wanted.id[:80]!r} is no id of a trace", next_step="it is 'tr-' and 32 hex digits") from None
    if wanted.duration_ms is not None and not 0 <= wanted.duration_ms < _MAX_DURATION_MS:
        raise Invalid(f"a trace cannot last {wanted.duration_ms} ms", next_step="give milliseconds from 0 on")
    if len(wanted.run) > 32 or len(wanted.client_request) > 500:
        raise Invalid("the run's or the client's id of a trace is too long", next_step="give 32 and 500 characters")
    return {
        "id": wanted.id,
        "state": str(wanted.state),
        "started_at": _checked(wanted.started_at),
        "duration_ms": wanted.duration_ms,
        "run": check_text("trace", "run", wanted.run),
        "client_request": check_text("trace", "client_request", wanted.client_request),
        "request_preview": check_text("trace", "request_preview", wanted.request_preview[:MAX_TEXT]),
        "response_preview": check_text("trace", "response_preview", wanted.response_preview[:MAX_TEXT]),
    }


def _checked(at: datetime) -> datetime:
    if at.tzinfo is None or not _EPOCH <= at <= _LAST:
        raise Invalid(
            f"a trace cannot begin at {at.isoformat()}",
            next_step="give a time with a zone, between the years 1970 and 9999",
        )
    return at


def drop_traces(tx: Connection, ids: Sequence[str] | Select[Any]) -> int:
    """Remove traces with all that hangs on them, their files too; how many."""
    given = ids if isinstance(ids, Select) else list(ids)
    chosen = select(traces.c.id).where(traces.c.id.in_(given))
    owners = select("trace:" + traces.c.id).where(traces.c.id.in_(given))
    tx.execute(kept_files.delete().where(kept_files.c.owner.in_(owners)))
    for table in (trace_tags, trace_metadata, trace_runs, trace_assessments, trace_spans):
        tx.execute(table.delete().where(table.c.trace.in_(chosen)))
    return tx.execute(traces.delete().where(traces.c.id.in_(given))).rowcount
