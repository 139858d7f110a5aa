"""Routes of the inference process over HTTP, and how an error becomes a status."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

import msgspec

from loopwright import __version__
from loopwright.core import Forbidden, LoopwrightError, NotFound
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Query
from loopwright.serve.rest import v2
from loopwright.serve.rest.http import Exchange

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_MOST_PATHS = 1024
_encode = msgspec.json.encode
Handler = Callable[[Exchange], None]


class App:
    """Answers exchanges with the data plane."""

    def __init__(self, plane: DataPlane, hosts: frozenset[bytes] | None = None) -> None:
        """Args:
        plane: what answers.
        hosts: the values of Host, without the port, that are taken; None takes any. A process that is bound to the
            loopback takes loopback names only, so that no page of another site can reach it by a name of its own.
        """
        self.ready = False
        self.connections: Callable[[], int] = lambda: 0
        self.figures: Callable[[], Awaitable[str]] | None = None  # of all workers, where there are several
        self._tasks: set[asyncio.Task[None]] = set()
        self._plane, self._hosts = plane, hosts
        self._targets: dict[bytes, tuple[str, str]] = {}

    def __call__(self, exchange: Exchange) -> None:
        """Answer one exchange, now or when the data plane has."""
        try:
            self._check_origin(exchange)
            if exchange.method == b"POST":
                self._infer(exchange)
            elif exchange.method in (b"GET", b"HEAD"):
                self._get(exchange)
            else:
                exchange.respond(405, _encode({"error": "use GET or POST"}), extra=b"allow: GET, HEAD, POST\r\n")
        except Exception as error:  # noqa: BLE001  (answered, and reported if it is a fault of ours)
            self._refuse(exchange, error)

    def _infer(self, exchange: Exchange) -> None:
        name, version = self._target(exchange.path)
        endpoint = self._plane.endpoint(name)
        exchange.endpoint = name
        request = v2.read_request(exchange.body)
        rows = v2.rows_of(request, endpoint.intake)

        def reply(answer: Answer | LoopwrightError) -> None:
            try:
                self._reply(exchange, endpoint, request, answer)
            except Exception as error:  # noqa: BLE001  (as above; others wait for their replies)
                self._refuse(exchange, error)

        query = Query(
            name,
            rows,
            reply,
            keys=v2.keys_of(request, len(rows)),
            event_times=v2.event_times_of(request, len(rows)),
            version=version,
            started_ns=exchange.started_ns,
        )
        self._plane.submit(query, endpoint)

    def _reply(
        self, exchange: Exchange, endpoint: LoadedEndpoint, request: v2.InferRequest, answer: Answer | LoopwrightError
    ) -> None:
        if isinstance(answer, LoopwrightError):
            raise answer
        body = v2.write_answer(answer, request, endpoint)
        metrics, name = self._plane.metrics, endpoint.spec.name
        metrics.requests[name, 200] += 1
        metrics.latency[name].observe((time.monotonic_ns() - exchange.started_ns) * 1e-9)
        exchange.respond(200, body)

    def _target(self, path: bytes) -> tuple[str, str]:
        """The endpoint and the version in the path of a request to infer."""
        found = self._targets.get(path)
        if found is None:
            parts = _parts(path)
            match parts:
                case ["v2", "models", name, "infer"]:
                    found = (name, "")
                case ["v2", "models", name, "versions", version, "infer"]:
                    found = (name, version)
                case _:
                    raise NotFound(f"there is nothing to post to at {'/' + '/'.join(parts)!r}")
            if len(self._targets) < _MOST_PATHS and name in self._plane.endpoints:
                self._targets[path] = found
        return found

    def _get(self, exchange: Exchange) -> None:
        match _parts(exchange.path):
            case ["v2"]:
                exchange.respond(200, _encode({"name": "loopwright", "version": __version__, "extensions": []}))
            case ["v2", "health", "live"]:
                exchange.respond(200, _encode({"live": True}))
            case ["v2", "health", "ready"]:
                body = {"ready": self.ready, "revision": self._plane.metrics.revision}
                exchange.respond(200 if self.ready else 503, _encode(body))
            case ["v2", "models", name]:
                exchange.respond(200, v2.describe(self._plane.endpoint(name)))
            case ["v2", "models", name, "ready"]:
                self._plane.endpoint(name)
                exchange.respond(200, _encode({"name": name, "ready": True}))
            case ["v2", "models", name, "versions", version]:
                self._plane.endpoint(name).at_version(version)
                exchange.respond(200, v2.describe(self._plane.endpoint(name)))
            case ["v2", "models", name, "versions", version, "ready"]:
                self._plane.endpoint(name).at_version(version)
                exchange.respond(200, _encode({"name": name, "ready": True}))
            case ["metrics"]:
                self._tell_figures(exchange)
            case parts:
                raise NotFound(f"there is nothing at {'/' + '/'.join(parts)!r}", next_step="start at /v2")

    def own_figures(self) -> str:
        """The figures of this process, as Prometheus reads them."""
        self._plane.metrics.connections = self.connections()
        return self._plane.metrics.render()

    def _tell_figures(self, exchange: Exchange) -> None:
        if self.figures is None:
            exchange.respond(200, self.own_figures().encode(), _TEXT)
            return
        task = asyncio.ensure_future(self._tell_all_figures(exchange, self.figures))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_all_figures(self, exchange: Exchange, figures: Callable[[], Awaitable[str]]) -> None:
        try:
            exchange.respond(200, (await figures()).encode(), _TEXT)
        except Exception as error:  # noqa: BLE001  (as above)
            self._refuse(exchange, error)

    def _refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with an error; one that nobody raised on purpose is reported in full, and not shown to the caller."""
        if not isinstance(error, LoopwrightError):
            traceback.print_exception(error, file=sys.stderr)
            error = LoopwrightError("the server failed on this request")
        self._plane.metrics.requests[exchange.endpoint, error.http_status] += 1
        extra = b"retry-after: 1\r\n" if error.http_status == 503 else b""
        exchange.respond(error.http_status, _encode({"error": str(error)}), extra=extra)

    def _check_origin(self, exchange: Exchange) -> None:
        """Refuse what a page of another site sends (DESIGN §7 rules 7 and 8)."""
        host = exchange.headers.get(b"host", b"")
        if self._hosts is not None and host and _without_port(host) not in self._hosts:
            raise Forbidden(f"this process does not answer for the host {host.decode('latin-1')!r}")
        origin = exchange.headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            raise Forbidden(f"requests from pages of {origin.decode('latin-1')!r} are not taken")


def _parts(path: bytes) -> list[str]:
    clean = unquote_to_bytes(path.partition(b"?")[0]).decode("utf-8", "replace")
    return clean.strip("/").split("/")


def _without_port(host: bytes) -> bytes:
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0].lower()
