"""The control app's own Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopwright.server.proxy import InferenceProxy
from loopwright.server.route import Call, RouteSpec

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ControlMetrics:
    """Counts requests by method, route and status. One per app, with a registry of its own."""

    def __init__(self, proxy: InferenceProxy, inference_url: Callable[[], str | None]) -> None:
        self._proxy = proxy
        self.registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "loopwright_control_requests", "Requests answered by the control app.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "loopwright_control_request_seconds",
            "Time from a request's head to the end of its reply.",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        up = Gauge("loopwright_inference_up", "Whether the inference process is known to run.", registry=self.registry)
        up.set_function(lambda: float(inference_url() is not None))

    def route(self) -> RouteSpec:
        """`GET /metrics`: the metrics of this app, followed by those of the inference process."""
        return RouteSpec("GET", "/metrics", "metrics:read", self.answer)

    async def answer(self, _call: Call) -> Response:
        """Both texts, one after the other; their metric names differ."""
        text = generate_latest(self.registry) + await self._proxy.metrics()
        return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The app with each of its requests counted, under the path of its route rather than its own."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            started, status = time.perf_counter(), 500

            async def note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, note)
            finally:
                route = getattr(scope.get("route"), "path", None) or scope.get("loopwright.route", "unknown")
                self.count(scope["method"], route, status, time.perf_counter() - started)

        return counted

    def count(self, method: str, route: str, status: int, taken_s: float) -> None:
        """Count a request that was answered."""
        requests, seconds = self._of(method, route, status)
        requests.inc()
        seconds.observe(taken_s)

    def _of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """The counters of requests that went alike; finding them by their labels costs more than counting."""
        found = self._known.get((method, route, status))
        if found is None:
            found = self._requests.labels(method, route, str(status)), self._seconds.labels(route)
            self._known[method, route, status] = found
        return found
