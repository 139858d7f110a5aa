"""Spans that come one by one: kept as rows, from which the trace that they are of is known as far as they tell it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from loopwright.core import Conflict, Invalid, Scope, operation
from loopwright.store import Stores
from loopwright.track.lifecycle import active_experiment
from loopwright.track.owned_texts import CHUNK, read_texts, write_texts
from loopwright.track.reading import any_run, find_experiment
from loopwright.track.traces.model import (
    INPUTS,
    NAME_TAG,
    OUTPUTS,
    TAG_PREFIX,
    NewTrace,
    Span,
    SpansKept,
    SpanStatus,
    TraceState,
)
from loopwright.track.traces.reading import the_trace
from loopwright.track.traces.tables import trace_runs, trace_spans, trace_tags, traces
from loopwright.track.traces.writing import trace_row
from loopwright.track.values import check_key, check_text

MAX_SPANS = 10_000
"""Spans of one call, and spans of one trace."""

_MAX_SPAN_BYTES = 4 << 20
_MAX_TRACE_BYTES = 64 << 20
_MAX_PREVIEW = 1000
_TRACE, _SPAN = re.compile(r"tr-[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")
_OPEN = (str(TraceState.RUNNING), str(TraceState.UNKNOWN))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_NS = 253_402_300_799_999_999_999
_columns = trace_spans.c


class Spanning:
    """What one can ask of the spans of traces."""

    stores: Stores
    scope: Scope

    @operation("traces.record_spans", permission="runs:write", effect="write")
    def record_spans(
        self, experiment: str, spans: list[Span], tags: dict[str, str] | None = None, run: str = ""
    ) -> SpansKept:
        """Keep spans, of one trace or several; one that is sent again takes the place of the one that is there.

        A trace begins with its first span, in this experiment. It is running until its root comes, whose end, status,
        inputs and outputs become the trace's own where nobody has told them.

        Args:
            experiment: by id or name.
            spans: at most 10,000.
            tags: of each of the traces, where it has no tag of that key yet.
            run: a run that the traces are linked to; by default none.

        Returns:
            How many are kept. A trace takes up to 10,000 spans and 64 MiB, a span up to 4 MiB; the rest is refused.

        Raises:
            NotFound: there is no such experiment or run.
            Conflict: the experiment is deleted, or a trace is another project's.
            Invalid: an id or a time is malformed, or there are more than 10,000 spans.
        """
        if len(spans) > MAX_SPANS:
            raise Invalid(f"{len(spans):,} spans are too many at once", next_step=f"send up to {MAX_SPANS:,}")
        rows = {(span.trace, span.id): span_row(span) for span in spans}
        last = {(span.trace, span.id): span for span in spans}
        with self.stores.db.begin() as tx:
            named = find_experiment(tx, self.scope.project, experiment)
            place = active_experiment(tx, self.scope.project, named.id if named else experiment).id
            ids = sorted({trace for trace, _ in rows})
            for id in ids:
                self.stores.db.lock(tx, f"trace {id}")
            held = self._held(tx, ids)
            if again := [{"t": trace, "s": span} for trace, span in rows if trace in held]:
                mine = (_columns.trace == bindparam("t"), _columns.id == bindparam("s"))
                tx.execute(delete(trace_spans).where(*mine), again)
            fitting = fit(rows, _used(tx, sorted(held)))
            groups: dict[str, list[Span]] = {}
            for key in fitting:
                groups.setdefault(key[0], []).append(last[key])
            self._tell(tx, place, groups, held)
            _tag(self.stores, tx, groups, tags or {})
            if run and groups:
                linked = any_run(tx, self.scope.project, run).id
                link = [{"trace": id, "run": linked} for id in groups]
                tx.execute(self.stores.db.upsert(trace_runs, {}, ["trace", "run"], ["run"]), link)
            if fitting:
                tx.execute(insert(trace_spans), [rows[key] for key in fitting])
        refused = len(rows) - len(fitting)
        why = f"a trace holds up to {MAX_SPANS:,} spans and 64 MiB, a span up to 4 MiB" if refused else ""
        return SpansKept(len(fitting), refused, why)

    @operation("traces.spans", permission="runs:read")
    def spans(self, trace: str) -> list[Span]:
        """The spans of a trace that were sent one by one: its root first, the others as they began.

        Raises:
            NotFound: there is no such trace.
        """
        with self.stores.db.read() as connection:
            the_trace(connection, self.scope.project, trace)
            query = select(trace_spans).where(_columns.trace == trace)
            found = connection.execute(query.order_by(_columns.started_ns, _columns.id)).all()
        return [_span(row) for row in sorted(found, key=lambda row: row.parent != "")]

    def _held(self, tx: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
        found: dict[str, Row[Any]] = {}
        for some in _chunks(ids):
            found.update((row.id, row) for row in tx.execute(select(traces).where(traces.c.id.in_(some))))
        for row in found.values():
            if row.project != self.scope.project:
                raise Conflict(f"the trace {row.id} is in another project", next_step="make a new trace")
        return found

    def _tell(
        self, tx: Connection, place: str, groups: Mapping[str, Sequence[Span]], held: Mapping[str, Row[Any]]
    ) -> None:
        """Keep what spans tell of their traces: new ones whole, of open ones what is newly known."""
        more = {"project": self.scope.project, "experiment_id": place, "actor": self.scope.actor}
        fresh = [{**trace_row(told(group)), **more} for id, group in groups.items() if id not in held]
        if fresh:
            tx.execute(insert(traces), fresh)
        for id, row in held.items():
            if id in groups and (change := changes(row, told(groups[id]))):
                tx.execute(update(traces).where(traces.c.id == id).values(change))


def span_row(span: Span) -> dict[str, Any]:
    """The columns of a span.

    Raises:
        Invalid: an id or a time is malformed.
    """
    if not _TRACE.fullmatch(span.trace):
        raise Invalid(f"{span.trace[:80]!r} is no id of a trace", next_step="it is 'tr-' and 32 hex digits")
    if not _SPAN.fullmatch(span.id) or (span.parent and not _SPAN.fullmatch(span.parent)):
        raise Invalid(f"{span.id[:40]!r} or its parent is no id of a span", next_step="it is 16 hex digits")
    for at in (span.started_ns, span.ended_ns or 0, *(event.at_ns for event in span.events)):
        if not 0 <= at < min(_LAST_NS, 1 << 63):
            raise Invalid(f"a span cannot begin or end at {at}", next_step="give Unix nanoseconds")
    check_text("span", "name", span.name)
    content = {
        "name": span.name,
        "message": span.message,
        "attributes": span.attributes,
        "events": [msgspec.to_builtins(event) for event in span.events],
        "links": [msgspec.to_builtins(link) for link in span.links],
    }
    return {
        "trace": span.trace,
        "id": span.id,
        "parent": span.parent,
        "name": span.name[:250],
        "kind": span.kind.replace("\0", "")[:64],
        "status": str(span.status),
        "started_ns": span.started_ns,
        "ended_ns": span.ended_ns,
        "content": content,
        "size_bytes": len(msgspec.json.encode(content)),
    }


def fit(
    rows: Mapping[tuple[str, str], Mapping[str, Any]], used: Mapping[str, tuple[int, int]]
) -> list[tuple[str, str]]:
    """The keys of the rows that their traces have room for, in their order; `used` is what a trace holds already, as
    a number of spans and of bytes."""
    room, fitting = dict(used), []
    for key, row in rows.items():
        count, size = room.get(key[0], (0, 0))
        more = row["size_bytes"]
        if more <= _MAX_SPAN_BYTES and count < MAX_SPANS and size + more <= _MAX_TRACE_BYTES:
            room[key[0]] = (count + 1, size + more)
            fitting.append(key)
    return fitting


def told(spans: Sequence[Span]) -> NewTrace:
    """What spans tell of their trace."""
    root = next((span for span in spans if not span.parent), None)
    start = min(span.started_ns for span in spans) // 1_000_000
    ends = [span.ended_ns for span in spans if span.ended_ns is not None]
    return NewTrace(
        id=spans[0].trace,
        started_at=_EPOCH + timedelta(milliseconds=start),
        duration_ms=max(max(ends) // 1_000_000 - start, 0) if ends else None,
        state=_state(root),
        request_preview=_preview(root, INPUTS),
        response_preview=_preview(root, OUTPUTS),
    )


def changes(held: Row[Any], new: NewTrace) -> dict[str, Any]:
    """What newly told things change of a trace that is there. One that has ended keeps its times and its state."""
    found: dict[str, Any] = {}
    for name in ("request_preview", "response_preview"):
        if getattr(new, name) and not getattr(held, name):
            found[name] = getattr(new, name)
    if held.state not in _OPEN:
        return found
    start = min(held.started_at, new.started_at)
    ends = [item.started_at + timedelta(milliseconds=item.duration_ms) for item in (held, new) if item.duration_ms]
    found["started_at"] = start
    if ends:
        found["duration_ms"] = (max(ends) - start) // timedelta(milliseconds=1)
    if new.state is not TraceState.RUNNING:
        found["state"] = str(new.state)
    return found


def _state(root: Span | None) -> TraceState:
    if root is None or root.ended_ns is None:
        return TraceState.RUNNING
    return TraceState.ERROR if root.status is SpanStatus.ERROR else TraceState.OK


def _preview(root: Span | None, attribute: str) -> str:
    if root is None or attribute not in root.attributes:
        return ""
    value = root.attributes[attribute]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("\0", "")[:_MAX_PREVIEW]


def is_tag(key: str, text: str) -> bool:
    """Whether a text can be a tag under this key."""
    try:
        check_text("tag", check_key("tag", key), text)
    except Invalid:
        return False
    return True


def _tag(stores: Stores, tx: Connection, groups: Mapping[str, Sequence[Span]], tags: Mapping[str, str]) -> None:
    """Tag each trace with what it is given and with what its root says, where it has no such tag."""
    there = read_texts(tx, trace_tags, list(groups))
    for id, spans in groups.items():
        wanted = {**tags, **_tags_of(next((span for span in spans if not span.parent), None))}
        known = there.get(id, {})
        write_texts(stores.db, tx, trace_tags, id, "tag", {key: wanted[key] for key in wanted if key not in known})


def _tags_of(root: Span | None) -> dict[str, str]:
    if root is None:
        return {}
    given = {key[len(TAG_PREFIX) :]: value for key, value in root.attributes.items() if key.startswith(TAG_PREFIX)}
    found = {NAME_TAG: root.name, **{key: value for key, value in given.items() if isinstance(value, str)}}
    return {key: text for key, text in found.items() if text and is_tag(key, text)}


def _used(tx: Connection, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How many spans, and bytes of them, these traces hold."""
    found: dict[str, tuple[int, int]] = {}
    for some in _chunks(ids):
        query = select(_columns.trace, func.count(), func.sum(_columns.size_bytes)).where(_columns.trace.in_(some))
        found.update((id, (count, int(size))) for id, count, size in tx.execute(query.group_by(_columns.trace)))
    return found


def _chunks(items: Sequence[str]) -> Iterator[list[str]]:
    return (list(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK))


def _span(row: Row[Any]) -> Span:
    return msgspec.convert(
        {
            **row.content,
            "trace": row.trace,
            "id": row.id,
            "parent": row.parent,
            "status": row.status,
            "started_ns": row.started_ns,
            "ended_ns": row.ended_ns,
        },
        Span,
    )
