"""What each version of an endpoint showed: sums over spans of time, for rollouts to be judged by."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from loopwright.monitor.batches import EPOCH, SLOT_US, microseconds, moment
from loopwright.monitor.model import ArmEvidence, ArmSpan
from loopwright.monitor.tables import prediction_slots
from loopwright.stats import Sufficient


def gather(
    connection: Connection,
    project: str,
    endpoint: str,
    since: datetime,
    models: Sequence[str],
    span_s: float,
    cuts: Sequence[datetime],
) -> list[ArmEvidence]:
    """The evidence on each of `models`, in that order.

    Spans begin at `since`, at each of `cuts`, and at the multiples of `span_s` since 1970 between them, so that two
    versions have the same spans. The grain is a quarter of an hour: a slot that was under way at the start of a span
    counts wholly for the span in which it began, the one that holds `since` for the first.
    """
    first = microseconds(since) // SLOT_US * SLOT_US
    table = prediction_slots
    query = select(table).where(
        table.c.project == project,
        table.c.endpoint == endpoint,
        table.c.start >= moment(first),
        table.c.model.in_(list(models)),
    )
    by_model: dict[str, list[Row[Any]]] = {model: [] for model in models}
    for row in connection.execute(query.order_by(table.c.start)):
        by_model[row.model].append(row)
    bounds = sorted({since, *(cut for cut in cuts if cut > since)})
    return [_arm(model, since, by_model[model], span_s, bounds) for model in models]


def _arm(
    model: str, since: datetime, rows: Sequence[Row[Any]], span_s: float, bounds: Sequence[datetime]
) -> ArmEvidence:
    spans: dict[datetime, ArmSpan] = {}
    for row in rows:
        start, end = _span_of(max(row.start, since), span_s, bounds)
        held = spans.get(start, ArmSpan(start, end))
        spans[start] = ArmSpan(
            start,
            end,
            held.losses + Sufficient(row.labels, row.loss, row.loss_squared),
            held.requests + Sufficient.of_events(row.rows, row.errors),
            held.latency_ms + Sufficient(row.latency_n, row.latency_ms, row.latency_ms_squared),
        )
    ordered = [spans[start] for start in sorted(spans)]
    return ArmEvidence(
        model=model,
        since=since,
        losses=sum((span.losses for span in ordered), Sufficient()),
        requests=sum((span.requests for span in ordered), Sufficient()),
        latency_ms=sum((span.latency_ms for span in ordered), Sufficient()),
        spans=ordered,
    )


def _span_of(at: datetime, span_s: float, bounds: Sequence[datetime]) -> tuple[datetime, datetime]:
    """The span that holds a time: between multiples of `span_s`, cut at the bounds."""
    width = timedelta(seconds=span_s)
    start = EPOCH + (at - EPOCH) // width * width
    place = bisect_right(bounds, at)
    later = bounds[place] if place < len(bounds) else start + width
    return max(start, bounds[place - 1]), min(start + width, later)
