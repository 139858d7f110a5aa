"""Forwards requests of the inference protocols to the inference process: streamed, bounded, over kept connections."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response, StreamingResponse

from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.govern import EVERY_PROJECT
from loopwright.server.guard import read_body, too_large
from loopwright.server.route import JSON, Call, Family, Handler, RouteSpec
from loopwright.server.upstream import Upstream

if TYPE_CHECKING:
    from starlette.requests import Request

_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_KEPT_HERE = frozenset({b"host", b"authorization", b"cookie", b"loopwright-csrf", b"expect", b"content-length"})
_SMALL_BYTES = 1 << 20
_CONNECTIONS = 64
_TYPES = (JSON, "application/octet-stream", "")
_KNOWN_S = 10.0
_MOST_KNOWN = 10_000


class InferenceProxy:
    """The inference process as the control app sees it. `url` gives its address, or None while it does not run."""

    def __init__(self, url: Callable[[], str | None], max_body_bytes: int, *, timeout_s: float = 60.0) -> None:
        self._url, self._max_body_bytes, self._timeout_s = url, max_body_bytes, timeout_s
        self._upstream: Upstream | None = None
        self._known: dict[tuple[str, str], float] = {}

    def routes(self) -> list[RouteSpec]:
        """The routes that are forwarded: health may be asked for by anybody, the rest needs a role.

        The model repository is that of the process, which serves all projects: it is for admins of the workspace.
        """
        return [
            self._route("GET", "/v2/health/{probe}", "public"),
            self._route("GET", "/v2", "endpoints:read"),
            self._route("GET", "/v2/models/stats", "endpoints:admin", self.forward_of_all),
            self._route("POST", "/v2/repository/{path:path}", "endpoints:admin", self.forward_of_all),
            self._route("GET", "/v1/models/{model:path}", "endpoints:read"),
            self._route("POST", "/v1/models/{model:path}", "endpoints:write"),
            self._route("GET", "/endpoints/{model:path}", "endpoints:read"),
            self._route("POST", "/endpoints/{model:path}", "endpoints:write"),
            self._route("GET", "/v2/{path:path}", "endpoints:read"),
            self._route("POST", "/v2/{path:path}", "endpoints:write"),
        ]

    def _route(self, method: str, path: str, permission: str, handler: Handler | None = None) -> RouteSpec:
        return RouteSpec(
            method,
            path,
            permission,
            handler or self.forward,
            family=Family.PROTOCOL,
            content_types=_TYPES,
            streams_body=True,
            error_page=v2_error,
        )

    async def forward_of_all(self, call: Call) -> Response:
        """As `forward`, for what concerns the models of all projects.

        Raises:
            NotFound: the caller has no role in every project, and a project has no repository of its own.
        """
        if call.identity is not None and EVERY_PROJECT not in call.identity.roles:
            raise NotFound(
                "the models of all projects are told to admins of the workspace", next_step="ask one of them"
            )
        return await self.forward(call)

    async def forward(self, call: Call) -> Response:
        """Send the request on and stream the answer back.

        Raises:
            Unavailable: the inference process does not run or does not answer.
            Invalid: the path climbs.
            BodyTooLarge: the body is over the bound.
        """
        await self._check_project(call)
        request = call.request
        method, body = (b"POST", await self._body(request)) if request.method == "POST" else (b"GET", b"")
        answer = await self._open().ask(method, _target(request), _forwarded(request), body)
        whole = await answer.whole_if_here()
        if whole is not None:
            response = Response(whole, answer.status)
        else:
            response = StreamingResponse(answer.body(), answer.status)
        lengths = [header for header in response.raw_headers if header[0] == b"content-length"]
        response.raw_headers = [header for header in answer.headers if header[0] not in _HOP]
        if lengths and not any(name == b"content-length" for name, _ in response.raw_headers):
            response.raw_headers += lengths
        return response

    async def _body(self, request: Request) -> bytes | AsyncIterator[bytes]:
        """The body: whole where it is said to be small, else part by part, within the bound."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) <= min(_SMALL_BYTES, self._max_body_bytes):
            return await read_body(request, self._max_body_bytes)
        return _bounded(request, self._max_body_bytes)

    async def _check_project(self, call: Call) -> None:
        """Refuse an endpoint of another project than the one in which the caller was judged: the inference process
        serves all projects and knows none. What was found is remembered for a while, so that answers stay quick.

        Raises:
            NotFound: the caller's project has no such endpoint.
        """
        if call.identity is None or EVERY_PROJECT in call.identity.roles:
            return
        name = _endpoint_in(call.request)
        if not name:
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
        try:
            answer = await self._open().ask(b"GET", b"/metrics", [], b"")
            parts = [part async for part in answer.body()]
        except Unavailable:
            return b""
        return b"".join(parts) if answer.status == 200 else b""

    async def close(self) -> None:
        """Close the connections."""
        if self._upstream is not None:
            self._upstream.close()

    def _open(self) -> Upstream:
        """The connections to the process that runs now; a new process has a new address."""
        url = self._url()
        if url is None:
            raise Unavailable("the inference process does not run just now", next_step="try again in a second")
        if self._upstream is None or self._upstream.url != url:
            if self._upstream is not None:
                self._upstream.close()
            self._upstream = Upstream(url, limit=_CONNECTIONS, timeout_s=self._timeout_s)
        return self._upstream


def _endpoint_in(request: Request) -> str:
    """The endpoint in `/v2/models/NAME/…`, `/v1/models/NAME:…` or `/endpoints/NAME/…`, else nothing."""
    if model := request.path_params.get("model", ""):
        return str(model).split("/")[0].partition(":")[0]
    parts = request.path_params.get("path", "").split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "models" else ""


def _target(request: Request) -> bytes:
    """The path and query as they came, so that nothing is decoded twice."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    if b".." in raw or b"%2e" in raw.lower():
        raise Invalid("the path climbs with '..'", where="path")
    query: bytes = request.scope.get("query_string", b"")
    return raw.split(b"?")[0] + (b"?" + query if query else b"")


def _forwarded(request: Request) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in request.headers.raw if name not in _HOP and name not in _KEPT_HERE]


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


def v2_error(_request: Request, error: LoopwrightError) -> Response:
    """An error as the Open Inference Protocol V2 tells it: `{"error": text}`."""
    headers = {"Retry-After": "1"} if error.http_status == 503 else {}
    body = msgspec.json.encode({"error": str(error)})
    return Response(body, status_code=error.http_status, media_type=JSON, headers=headers)
