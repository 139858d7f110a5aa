"""The file of a trace that holds its spans, as MLflow's clients write it: ids in base64, attributes as JSON texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from loopwright.core import Corrupt
from loopwright.track.traces.model import Span, SpanEvent, SpanStatus


def spans_of_file(file: bytes, trace: str) -> list[Span]:
    """The spans of a file `traces.json`: the root first, the others as they began.

    Raises:
        Corrupt: it is no such file, or one of an MLflow before 3.0.
    """
    try:
        spans = [_span(item, trace) for item in json.loads(file)["spans"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Corrupt(
            f"the spans of the trace {trace} cannot be read", next_step="download the trace's file traces.json"
        ) from None
    return sorted(spans, key=lambda span: (span.parent != "", span.started_ns))


def _span(item: Mapping[str, Any], trace: str) -> Span:
    ended, status = item["end_time_unix_nano"], item["status"]
    return Span(
        trace=trace,
        id=_digits(item["span_id"]),
        name=str(item["name"]),
        started_ns=int(item["start_time_unix_nano"]),
        ended_ns=int(ended) if ended else None,
        parent=_digits(item["parent_span_id"] or ""),
        status=SpanStatus(str(status["code"]).removeprefix("STATUS_CODE_").lower()),
        message=str(status.get("message") or ""),
        attributes={key: json.loads(text) for key, text in item["attributes"].items()},
        events=tuple(
            SpanEvent(str(one["name"]), int(one["time_unix_nano"]), dict(one.get("attributes") or {}))
            for one in item.get("events") or ()
        ),
    )


def _digits(id: str) -> str:
    return base64.b64decode(id, validate=True).hex()
