"""Requests of the OpenTelemetry protocol (OTLP/HTTP 1.x, traces) as spans: from JSON, and from protobuf.

Both are read into the same structs, which have the names of OTLP's JSON. Ids are hex digits in JSON, bytes in protobuf.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from loopwright.core import Invalid
from loopwright.server.errors import BodyTooLarge
from loopwright.server.protocols.mlflow.errors import Unprocessable, Unsupported
from loopwright.track import Span, SpanEvent, SpanLink, SpanStatus

PROTOBUF = "application/x-protobuf"
_MAX_BYTES = 64 << 20
_MAX_DEPTH = 32
_STATUSES = {
    1: SpanStatus.OK,
    "STATUS_CODE_OK": SpanStatus.OK,
    2: SpanStatus.ERROR,
    "STATUS_CODE_ERROR": SpanStatus.ERROR,
}
_WINDOWS = {"gzip": (31,), "deflate": (15, -15)}


class Camel(msgspec.Struct, frozen=True, rename="camel"):
    """A message of OTLP's JSON."""


class AnyValue(Camel, frozen=True):
    """One value; at most one of these is given."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | None = None
    double_value: float | str | None = None
    bytes_value: str | None = None
    array_value: Values | None = None
    kvlist_value: Pairs | None = None


class Values(Camel, frozen=True):
    values: list[AnyValue] = []


class KeyValue(Camel, frozen=True):
    key: str = ""
    value: AnyValue | None = None


class Pairs(Camel, frozen=True):
    values: list[KeyValue] = []


class EventItem(Camel, frozen=True):
    name: str = ""
    time_unix_nano: int = 0
    attributes: list[KeyValue] = []


class LinkItem(Camel, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    attributes: list[KeyValue] = []


class StatusItem(Camel, frozen=True):
    code: int | str = 0
    message: str = ""


class SpanItem(Camel, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    start_time_unix_nano: int = 0
    end_time_unix_nano: int = 0
    attributes: list[KeyValue] = []
    events: list[EventItem] = []
    links: list[LinkItem] = []
    status: StatusItem = StatusItem()


class ScopeSpans(Camel, frozen=True):
    spans: list[SpanItem] = []


class Resource(Camel, frozen=True):
    attributes: list[KeyValue] = []


class ResourceSpans(Camel, frozen=True):
    resource: Resource = Resource()
    scope_spans: list[ScopeSpans] = []


class Export(Camel, frozen=True):
    """What a client exports: spans, by what made them."""

    resource_spans: list[ResourceSpans] = []


_json = msgspec.json.Decoder(Export, strict=False)


def unpacked(body: bytes, encoding: str) -> bytes:
    """A body without its compression, in bounded memory.

    Raises:
        Invalid: the compression is unknown, or the body is not so compressed.
        BodyTooLarge: it is over 64 MiB without it.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        raise Invalid(f"Unsupported Content-Encoding: {encoding[:40]}", next_step="use gzip, deflate or none")
    for window in _WINDOWS[encoding]:
        stream = zlib.decompressobj(window)
        try:
            found = stream.decompress(body, _MAX_BYTES)
        except zlib.error:
            continue
        if stream.unconsumed_tail:
            raise BodyTooLarge(f"the body is over {_MAX_BYTES} bytes", next_step="send it in several requests")
        if stream.eof:
            return found
    raise Invalid(f"Failed to decompress {encoding} payload", next_step="send the whole body, compressed once")


def read_json(body: bytes) -> Export:
    """The request in a JSON body.

    Raises:
        Invalid: it is none.
    """
    try:
        return _json.decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"Invalid OpenTelemetry format: {error}", next_step="send an ExportTraceServiceRequest") from None


def read_protobuf(body: bytes) -> Export:
    """The request in a protobuf body.

    Raises:
        Invalid: it is none.
        Unsupported: what reads protobuf is not installed here.
    """
    message_type = _message("ExportTraceServiceRequest")
    from google.protobuf.message import DecodeError

    try:
        return _export(message_type.FromString(body))
    except (DecodeError, RecursionError):
        raise Invalid("Invalid OpenTelemetry format", next_step="send an ExportTraceServiceRequest") from None


def reply(refused: int, why: str, *, protobuf: bool) -> bytes:
    """The body of the reply: empty where nothing was refused."""
    if not protobuf:
        partial = {"partialSuccess": {"rejectedSpans": str(refused), "errorMessage": why}}
        return msgspec.json.encode(partial if refused else {})
    if not refused:
        return b""
    made = _message("ExportTraceServiceResponse")()
    made.partial_success.rejected_spans, made.partial_success.error_message = refused, why
    data: bytes = made.SerializeToString()
    return data


def spans_of(export: Export) -> Iterator[tuple[dict[str, Any], list[Span]]]:
    """The spans of each resource, with the resource's attributes.

    Raises:
        Unprocessable: a span has no ids, or its values nest too deep.
    """
    for group in export.resource_spans:
        yield _attributes(group.resource.attributes), [_span(item) for part in group.scope_spans for item in part.spans]


def _span(item: SpanItem) -> Span:
    trace, own = item.trace_id.lower(), item.span_id.lower()
    if len(trace) != 32 or len(own) != 16:
        raise Unprocessable(
            f"Cannot convert the OpenTelemetry span {item.name[:80]!r}: its trace_id or span_id is none",
            next_step="give 16 and 8 bytes",
        )
    return Span(
        trace=f"tr-{trace}",
        id=own,
        parent=item.parent_span_id.lower(),
        name=item.name,
        started_ns=item.start_time_unix_nano,
        ended_ns=item.end_time_unix_nano or None,
        status=_STATUSES.get(item.status.code, SpanStatus.UNSET),
        message=item.status.message,
        attributes=_attributes(item.attributes),
        events=tuple(SpanEvent(one.name, one.time_unix_nano, _attributes(one.attributes)) for one in item.events),
        links=tuple(
            SpanLink(f"tr-{one.trace_id.lower()}", one.span_id.lower(), _attributes(one.attributes))
            for one in item.links
        ),
    )


def _attributes(pairs: Sequence[KeyValue], depth: int = 0) -> dict[str, Any]:
    return {pair.key: _plain(pair.value, depth) for pair in pairs}


def _plain(value: AnyValue | None, depth: int) -> Any:
    """The value as JSON can hold it: a number that it cannot is a text."""
    if depth > _MAX_DEPTH:
        raise Unprocessable(f"a value nests deeper than {_MAX_DEPTH}", next_step="send it as a text")
    if value is None:
        return None
    if value.array_value is not None:
        return [_plain(item, depth + 1) for item in value.array_value.values]
    if value.kvlist_value is not None:
        return _attributes(value.kvlist_value.values, depth + 1)
    if value.double_value is not None:
        number = value.double_value
        return number if isinstance(number, str) or math.isfinite(number) else str(number)
    simple = (value.string_value, value.bool_value, value.int_value, value.bytes_value)
    return next((item for item in simple if item is not None), None)


def _message(name: str) -> Any:
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ImportError:
        # Clients of MLflow that find these words in a reply send spans as files from then on.
        raise Unsupported(
            "REST OTLP span logging is not supported in protobuf by this server",
            next_step="install 'loopwright[otel]' where it runs, or send JSON",
        ) from None
    return getattr(trace_service_pb2, name)


def _export(message: Any) -> Export:
    groups = [
        ResourceSpans(
            Resource(_pairs(group.resource.attributes)),
            [ScopeSpans([_item(span) for span in part.spans]) for part in group.scope_spans],
        )
        for group in message.resource_spans
    ]
    return Export(groups)


def _item(span: Any) -> SpanItem:
    return SpanItem(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        start_time_unix_nano=span.start_time_unix_nano,
        end_time_unix_nano=span.end_time_unix_nano,
        attributes=_pairs(span.attributes),
        events=[EventItem(one.name, one.time_unix_nano, _pairs(one.attributes)) for one in span.events],
        links=[LinkItem(one.trace_id.hex(), one.span_id.hex(), _pairs(one.attributes)) for one in span.links],
        status=StatusItem(span.status.code, span.status.message),
    )


def _pairs(pairs: Any) -> list[KeyValue]:
    return [KeyValue(pair.key, _value(pair.value)) for pair in pairs]


def _value(value: Any) -> AnyValue | None:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    given = getattr(value, kind)
    if kind == "array_value":
        given = Values([_value(item) or AnyValue() for item in given.values])
    elif kind == "kvlist_value":
        given = Pairs(_pairs(given.values))
    elif kind == "bytes_value":
        given = base64.b64encode(given).decode()
    return AnyValue(**{kind: given}) if kind in AnyValue.__struct_fields__ else None
