"""The short way for small requests that come often, one after the other on kept-alive connections: each head is judged
once, and the handler is given the body itself, without a task, a request object or a thread.

Only what is ordinary in every respect is taken: the exact path of a route that has such a handler, a whole body of a
known length, a caller on this machine in local mode. A head is judged by the very rules that stand before every
handler (`loopwright.server.guard`); whatever they refuse, and whatever else is unusual, goes the thorough way, which
says what is wrong. Callers with a token go that way too: a token may be revoked between two requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import httptools
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from loopwright.core import LoopwrightError, new_id
from loopwright.govern import authorise, local_identity
from loopwright.server import security
from loopwright.server.dispatch import split_path
from loopwright.server.errors import as_error
from loopwright.server.guard import REQUEST_HEADER, Guard
from loopwright.server.metrics import ControlMetrics
from loopwright.server.route import PROJECT_HEADER, AtOnce, Family, RouteSpec, check_project
from loopwright.server.security import Head

_THOROUGH = frozenset({"authorization", "cookie", "transfer-encoding", "expect", "upgrade", "content-encoding"})
_GOOD = b"content-length: 2\r\ncontent-type: application/json\r\n%b: %%b\r\n\r\n{}" % REQUEST_HEADER.encode()
Headers = Sequence[tuple[bytes, bytes]]


class Shortcut(NamedTuple):
    """What a head that was judged leads to: a route's handler, the project, and how long the body is."""

    route: RouteSpec
    at_once: AtOnce
    project: str
    length: int


class Shortcuts:
    """The routes that have a short way, and the replies on it."""

    def __init__(self, routes: Sequence[RouteSpec], guard: Guard, metrics: ControlMetrics) -> None:
        self._guard, self._metrics = guard, metrics
        self._routes = {route.path: route for route in routes if route.at_once is not None}

    def judge(self, head: bytes, peer: str) -> Shortcut | None:
        """Where a head leads, from its first byte to the empty line; None where it has to go the thorough way.

        Args:
            peer: the address of the other end of the connection.
        """
        read = _Reading(head)
        if read.head is None or _THOROUGH & read.head.keys():
            return None
        project, path = split_path(read.path)
        route, length = self._routes.get(path), read.head.get("content-length", "")
        if route is None or route.at_once is None or not length.isdecimal():
            return None
        settings = self._guard.settings
        try:
            project = self._admitted(route, Head("POST", peer, read.head), project)
        except LoopwrightError:
            return None
        fits = int(length) <= settings.max_body_bytes
        return Shortcut(route, route.at_once, project, int(length)) if fits else None

    def _admitted(self, route: RouteSpec, head: Head, project: str) -> str:
        """The project of a request that keeps every rule; the rules and their order are those of `Guard.admit`.

        Raises:
            LoopwrightError: it breaks one.
        """
        settings = self._guard.settings
        security.check_host(head, settings)
        security.check_origin(head, settings)
        named = project or head.headers.get(PROJECT_HEADER)
        project = check_project(named, route.permission) if named else settings.default_project
        authorise(local_identity() if security.is_local(head, settings) else None, route.permission, project)
        security.check_csrf(head, None, protocol=route.family is Family.PROTOCOL)
        security.check_content_type(head, route.content_types)
        return project

    def good(self, route: RouteSpec, headers: Headers, seconds: float) -> bytes:
        """The reply to a request that was done, which is counted.

        Args:
            headers: those of every reply.
            seconds: since the head came.
        """
        self._metrics.count("POST", route.path, 200, seconds)
        return b"".join([STATUS_LINE[200], *_lines(headers), _GOOD % new_id().encode()])

    def refusal(self, route: RouteSpec, headers: Headers, seconds: float, error: LoopwrightError) -> bytes:
        """The reply to a request that was not, as the thorough way gives it."""
        request_id = new_id()
        told = as_error(error, request_id)
        response = self._guard.refuse(route, Request({"type": "http", "path": route.path, "headers": []}), told)
        self._metrics.count("POST", route.path, response.status_code, seconds)
        own = [*response.raw_headers, (REQUEST_HEADER.encode(), request_id.encode())]
        head = [STATUS_LINE[response.status_code], *_lines(headers), *_lines(own), b"\r\n"]
        return b"".join([*head, bytes(response.body)])


def _lines(headers: Headers) -> list[bytes]:
    return [b"%b: %b\r\n" % header for header in headers]


class _Reading:
    """A head as httptools reads it: `head` has its headers, None where it is not an ordinary POST on a connection that
    is to be kept."""

    def __init__(self, data: bytes) -> None:
        self.path = ""
        self.head: dict[str, str] | None = None
        self._url, self._found = b"", dict[str, str]()
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
            ordinary = parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
            if ordinary and parser.should_keep_alive() and not parser.should_upgrade():
                self.path, self.head = self._url.decode("ascii"), self._found
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            pass

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._found[name.decode("latin-1").lower()] = value.decode("latin-1")
