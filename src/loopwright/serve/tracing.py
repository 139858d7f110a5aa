"""OpenTelemetry traces of requests, on request: a span per request and one per run of a model, sent by OTLP over HTTP.

The trace goes on from the caller's `traceparent` (https://www.w3.org/TR/trace-context/). Nothing here is imported, and
nothing on the way of a request is different, while no collector is named.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from loopwright import __version__
from loopwright.core import Invalid, missing_extra
from loopwright.serve.codes import FAULTS, Code
from loopwright.serve.dataplane import Run
from loopwright.serve.loaded import LoadedVariant
from loopwright.serve.query import Part
from loopwright.serve.rest.http import WatchedExchange
from loopwright.serve.watching import Begun, Watched, WatchedCall

_MOST_OPEN = 20_000
_CONTEXT = ("traceparent", "tracestate")
_EXPORT_TIMEOUT_S = 5.0
Noted = tuple[int, int, int, str, str]
"""A run of a model: its start and end on the monotonic clock in nanoseconds, its rows, the model, why it failed."""


def check_collector(address: str) -> None:
    """Raises Invalid where spans could never be sent there."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"{address!r} is no address of an OTLP collector", next_step="write it as http://127.0.0.1:4318")


class Tracing:
    """Makes spans of what it is told, and has them sent by a thread. Lives on one event loop.

    A collector that is away costs spans, never answers: at most 2,048 wait for it.
    """

    def __init__(self, collector: str, service: str = "loopwright") -> None:
        """Args:
        collector: the address of an OTLP collector, such as `http://127.0.0.1:4318`.
        service: what traces call this process.

        Raises:
            Invalid: that is no such address, or the library is not installed.
        """
        check_collector(collector)
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import SpanKind
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise missing_extra("opentelemetry-sdk", "otel", "tracing") from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{collector.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("loopwright.serve", __version__)
        self._server_kind, self._propagator = SpanKind.SERVER, TraceContextTextMapPropagator()
        self._wall_ns = time.time_ns() - time.monotonic_ns()
        self._open: dict[int, list[Noted]] = {}

    def begin(self, request: Begun) -> None:
        """A request has come."""
        if len(self._open) < _MOST_OPEN:
            self._open[request.started_ns] = []

    def around(self, run: Run) -> Run:
        """A run of a model that is noted. Requests are told apart by the nanosecond of their arrival."""

        def noted(loaded: LoadedVariant, parts: list[Part]) -> None:
            start_ns = time.monotonic_ns()
            run(loaded, parts)
            self._note_run(parts, start_ns, time.monotonic_ns())

        return noted

    def _note_run(self, parts: Sequence[Part], start_ns: int, end_ns: int) -> None:
        rows = sum(part.count for part in parts)
        for part in parts:
            runs = self._open.get(part.query.started_ns)
            if runs is not None:
                failure = "" if part.failure is None else str(part.failure)
                runs.append((start_ns, end_ns, rows, part.loaded.variant.model, failure))

    def end(self, exchange: WatchedExchange, status: int, size: int) -> None:
        """A request over HTTP was answered: its spans are made, and sent later."""
        method, path = exchange.method.decode("latin-1"), exchange.path.partition(b"?")[0].decode("latin-1")
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.path": path[:256],
            "http.response.status_code": status,
            "http.request.body.size": len(exchange.body),
            "http.response.body.size": size,
        }
        name = f"{method} {exchange.endpoint or path[:64]}"
        self._end(exchange, name, attributes, f"status {status}" if status >= 500 else "")

    def end_call(self, call: WatchedCall, code: Code, size: int) -> None:
        """A request over gRPC was answered; each request of a stream has a span.

        The attributes are those of OpenTelemetry's semantic conventions for RPC and gRPC.
        """
        path = call.path.decode("utf-8", "replace").strip("/")[:256]
        service, _, method = path.rpartition("/")
        attributes: dict[str, Any] = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "rpc.grpc.status_code": int(code),
            "rpc.request.size": call.size,
            "rpc.response.size": size,
            "client.address": call.peer,
        }
        self._end(call, path, attributes, code.name if code in FAULTS else "")

    def _end(self, request: Watched, name: str, attributes: dict[str, Any], failure: str) -> None:
        runs = self._open.pop(request.started_ns, [])
        told = {
            key: request.headers[key.encode()].decode("latin-1") for key in _CONTEXT if key.encode() in request.headers
        }
        if request.endpoint:
            attributes["loopwright.endpoint"] = request.endpoint
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(told) if told else None,
            kind=self._server_kind,
            attributes=attributes,
            start_time=request.started_ns + self._wall_ns,
        )
        for run in runs:
            self._run_span(span, run)
        if failure:
            span.set_status(_failed(failure))
        span.end(time.monotonic_ns() + self._wall_ns)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def _run_span(self, request: Any, run: Noted) -> None:
        from opentelemetry.trace import set_span_in_context

        start_ns, end_ns, rows, model, failure = run
        span = self._tracer.start_span(
            "predict",
            context=set_span_in_context(request),
            attributes={"loopwright.model": model, "loopwright.batch_rows": rows},
            start_time=start_ns + self._wall_ns,
        )
        if failure:
            span.set_status(_failed(failure))
        span.end(end_ns + self._wall_ns)


def _failed(why: str) -> Any:
    from opentelemetry.trace import Status, StatusCode

    return Status(StatusCode.ERROR, why)
