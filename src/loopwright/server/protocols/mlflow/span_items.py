"""Spans in MLflow's words: as its file `traces.json` holds them, and as the messages that clients from 3.5 on read.

In the file, each attribute is a JSON text of its own and ids are base64; the messages are OpenTelemetry's, in
protobuf's JSON, whose names have underscores.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from loopwright.core import Corrupt
from loopwright.track import Span, SpanStatus

_REQUEST = "mlflow.traceRequestId"
_CODES = {
    SpanStatus.UNSET: "STATUS_CODE_UNSET",
    SpanStatus.OK: "STATUS_CODE_OK",
    SpanStatus.ERROR: "STATUS_CODE_ERROR",
}
_INT64 = 1 << 63


def spans_file(spans: Sequence[Span]) -> bytes:
    """The file `traces.json` of a trace."""
    return json.dumps({"spans": [filed(span) for span in spans]}, ensure_ascii=False, separators=(",", ":")).encode()


def filed(span: Span) -> dict[str, Any]:
    """A span as the file holds it."""
    attributes = {**span.attributes, _REQUEST: span.trace}
    return {
        "trace_id": _base64(span.trace[3:]),
        "span_id": _base64(span.id),
        "parent_span_id": _base64(span.parent) if span.parent else None,
        "name": span.name,
        "start_time_unix_nano": span.started_ns,
        "end_time_unix_nano": span.ended_ns,
        "events": [
            {"name": event.name, "time_unix_nano": event.at_ns, "attributes": event.attributes} for event in span.events
        ],
        "status": {"code": _CODES[span.status], "message": span.message},
        "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in attributes.items()},
        "links": [{"trace_id": one.trace, "span_id": one.span, "attributes": one.attributes} for one in span.links],
    }


def messages(file: bytes, trace: str) -> list[dict[str, Any]]:
    """The spans of a file `traces.json` as messages.

    Raises:
        Corrupt: it is no such file, or one of an MLflow before 3.0.
    """
    try:
        return [_message(item) for item in json.loads(file)["spans"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Corrupt(
            f"the spans of the trace {trace} cannot be read", next_step="download the trace's file traces.json"
        ) from None


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    status = item["status"]
    return {
        "trace_id": item["trace_id"],
        "span_id": item["span_id"],
        "parent_span_id": item["parent_span_id"] or "",
        "name": item["name"],
        "start_time_unix_nano": str(item["start_time_unix_nano"]),
        "end_time_unix_nano": str(item["end_time_unix_nano"] or 0),
        "status": {"code": status["code"], "message": status.get("message") or ""},
        "attributes": _pairs({key: json.loads(text) for key, text in item["attributes"].items()}),
        "events": [
            {"name": one["name"], "time_unix_nano": str(one["time_unix_nano"]), "attributes": _pairs(one["attributes"])}
            for one in item.get("events") or ()
        ],
        "links": [
            {
                "trace_id": _base64(one["trace_id"].rpartition("-")[2]),
                "span_id": _base64(one["span_id"]),
                "attributes": _pairs(one.get("attributes") or {}),
            }
            for one in item.get("links") or ()
        ],
    }


def _pairs(values: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in (values or {}).items()]


def _value(value: Any) -> dict[str, Any]:
    """A value of OpenTelemetry; a whole number that it has no room for is a double."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"bool_value": value}
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return {"int_value": str(value)}
    if isinstance(value, int | float):
        number = float(value)
        return {"double_value": number if math.isfinite(number) else str(number).replace("inf", "Infinity")}
    if isinstance(value, Mapping):
        return {"kvlist_value": {"values": _pairs(value)}}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {"array_value": {"values": [_value(item) for item in value]}}
    return {"string_value": str(value)}


def _base64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()
