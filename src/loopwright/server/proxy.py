"""Forwards requests of the inference protocols to the inference process: streamed, bounded, over kept connections."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response, StreamingResponse

from loopwright.core import Invalid, LoopwrightError, Unavailable
from loopwright.govern import EVERY_PROJECT
from loopwright.server.guard import too_large
from loopwright.server.route import JSON, Call, Family, RouteSpec

if TYPE_CHECKING:
    import httpx
    from starlette.requests import Request

_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_KEPT_HERE = frozenset({"host", "authorization", "cookie", "loopwright-csrf", "expect"})
_CONNECTIONS = 64
_TYPES = (JSON, "application/octet-stream", "")
_KNOWN_S = 10.0
_MOST_KNOWN = 10_000


class InferenceProxy:
    """The inference process as the control app sees it. `url` gives its address, or None while it does not run."""

    def __init__(self, url: Callable[[], str | None], max_body_bytes: int, *, timeout_s: float = 60.0) -> None:
        self._url, self._max_body_bytes, self._timeout_s = url, max_body_bytes, timeout_s
        self._client: httpx.AsyncClient | None = None
        self._known: dict[tuple[str, str], float] = {}

    def routes(self) -> list[RouteSpec]:
        """The routes that are forwarded: health may be asked for by anybody, the rest needs a role."""
        return [
            self._route("GET", "/v2/health/{probe}", "public"),
            self._route("GET", "/v2", "endpoints:read"),
            self._route("GET", "/v2/{path:path}", "endpoints:read"),
            self._route("POST", "/v2/{path:path}", "endpoints:write"),
        ]

    def _route(self, method: str, path: str, permission: str) -> RouteSpec:
        return RouteSpec(
            method,
            path,
            permission,
            self.forward,
            family=Family.PROTOCOL,
            content_types=_TYPES,
            streams_body=True,
            error_page=v2_error,
        )

    async def forward(self, call: Call) -> Response:
        """Send the request on and stream the answer back.

        Raises:
            Unavailable: the inference process does not run or does not answer.
        Invalid: the path climbs.
            BodyTooLarge: the body is over the bound.
        """
        import httpx

        await self._check_project(call)
        target = self._base() + _target(call.request)
        content = None if call.request.method == "GET" else _bounded(call.request, self._max_body_bytes)
        outgoing = self._open().build_request(
            call.request.method, target, headers=_forwarded(call.request), content=content
        )
        try:
            answer = await self._open().send(outgoing, stream=True)
        except httpx.HTTPError as error:
            raise _silent() from error
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        return StreamingResponse(_stream(answer), status_code=answer.status_code, headers=headers)

    async def _check_project(self, call: Call) -> None:
        """Refuse an endpoint of another project than the one in which the caller was judged: the inference process
        serves all projects and knows none. What was found is remembered for a while, so that answers stay quick.

        Raises:
            NotFound: the caller's project has no such endpoint.
        """
        name = _endpoint_in(call.request.path_params.get("path", ""))
        if not name or call.identity is None or EVERY_PROJECT in call.identity.roles:
            return
        key, now = (call.scope.project, name), time.monotonic()
        if self._known.get(key, 0.0) > now:
            return
        if call.services.has("endpoints.get"):
            await call.ask("endpoints.get", name=name)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = now + _KNOWN_S

    async def metrics(self) -> bytes:
        """The inference process's own Prometheus metrics; empty while it does not answer."""
        import httpx

        try:
            answer = await self._open().get(f"{self._base()}/metrics", timeout=5.0)
        except (httpx.HTTPError, Unavailable):
            return b""
        return answer.content if answer.status_code == 200 else b""

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _base(self) -> str:
        url = self._url()
        if url is None:
            raise _silent()
        return url.rstrip("/")

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
            timeout = httpx.Timeout(self._timeout_s, connect=2.0)
            self._client = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False)
        return self._client


def _endpoint_in(path: str) -> str:
    """The endpoint in `models/NAME/…`, else nothing."""
    parts = path.split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "models" else ""


def _silent() -> Unavailable:
    return Unavailable("the inference process does not answer", next_step="try again in a second")


def _target(request: Request) -> str:
    """The path and query as they came, so that nothing is decoded twice."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    if b".." in raw or b"%2e" in raw.lower():
        raise Invalid("the path climbs with '..'", where="path")
    query: bytes = request.scope.get("query_string", b"")
    return (raw.split(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def _forwarded(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.headers.items() if name not in _HOP and name not in _KEPT_HERE]


async def _bounded(request: Request, limit_bytes: int) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise too_large(limit_bytes)
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        yield part


async def _stream(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()


def v2_error(_request: Request, error: LoopwrightError) -> Response:
    """An error as the Open Inference Protocol V2 tells it: `{"error": text}`."""
    headers = {"Retry-After": "1"} if error.http_status == 503 else {}
    body = msgspec.json.encode({"error": str(error)})
    return Response(body, status_code=error.http_status, media_type=JSON, headers=headers)
