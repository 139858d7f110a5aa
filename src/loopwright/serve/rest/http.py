"""HTTP/1.1 on asyncio: connections, requests in order (pipelined or not), limits, a graceful end.

A request that arrives whole, with a head like one that was seen before, is cut out of the bytes as it is; anything else
goes through httptools: bodies in pieces or chunks, heads in pieces, whatever is unusual or wrong.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools
import msgspec

from loopwright.serve.rest.arrivals import Connection
from loopwright.serve.rest.heads import Head, Heads
from loopwright.serve.rest.responses import JSON, written
from loopwright.serve.tls import handshake_s

_GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_BUSY_S = 1.0  # `HttpServer.now` is up to half a second old
_END_OF_HEAD = b"\r\n\r\n"


class HttpLimits(msgspec.Struct, frozen=True):
    """What bounds a connection, and all of them together: sizes in bytes, times in seconds.

    Attributes:
        unfinished_bytes: of bodies that have not arrived whole, over all connections.
        linger_s: how long a busy connection is kept at the end for its next request, whose answer says that it closes.
    """

    head_bytes: int = 64 << 10
    body_bytes: int = 64 << 20
    request_s: float = 30.0
    idle_s: float = 120.0
    pipelined: int = 256
    connections: int = 10_000
    unfinished_bytes: int = 256 << 20
    linger_s: float = 0.5


class Exchange:
    """One request and the place of its response in its connection's order."""

    __slots__ = ("_connection", "body", "endpoint", "head", "response", "started_ns")

    def __init__(self, connection: HttpConnection, head: Head, body: bytes) -> None:
        self._connection, self.head, self.body = connection, head, body
        self.response: bytes | None = None
        self.started_ns = time.monotonic_ns()
        self.endpoint = ""  # the app's, for its counts

    @property
    def method(self) -> bytes:
        """Such as `POST`."""
        return self.head.method

    @property
    def path(self) -> bytes:
        """As it was sent, with its query."""
        return self.head.path

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By name in small letters; not to be changed."""
        return self.head.headers

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """Answer, once. Responses leave in the order of their requests, whatever the order of these calls.

        Args:
            extra: further header lines, each ended by CRLF.
        """
        keep = self.head.keep_alive and not self._connection.server.draining
        if status == 200 and keep and content_type is JSON and not extra and self.head.method != b"HEAD":
            self.response = _GOOD % (len(body), body)
        else:
            lines = extra if keep else extra + b"connection: close\r\n"
            self.response = written(status, body, content_type, lines, self.head.method == b"HEAD")
        self._connection.send_ready(keep)


class WatchedExchange(Exchange):
    """An exchange whose response is told to those who watch the server."""

    __slots__ = ()

    @property
    def peer(self) -> str:
        """The address of the client; empty when it has gone."""
        return self._connection.peer

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """See Exchange."""
        super().respond(status, body, content_type, extra)
        for watcher in self._connection.server.watchers:
            watcher(self, status, len(body))


class HttpConnection(Connection, asyncio.Protocol):  # type: ignore[misc,valid-type]  # the compiled one, if it is there
    """One client's connection. Callbacks of the parser have the names that httptools wants."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._parser = httptools.HttpRequestParser(self)
        self._exchange = server.exchange
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Exchange] = deque()
        self._known = server.heads.by_bytes
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_size = self._body_size = 0
        self._refused = False
        self._last = False  # the client will send nothing more that counts
        self._closing = False
        self._paused = False
        self._since = time.monotonic()
        self._in_request = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        raw = transport.get_extra_info("socket") if self.server.tls is None else None
        self._socket = 0 if raw is None else raw.fileno()
        self.server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._socket = 0  # the descriptor may be another connection's soon
        self._waiting.clear()
        self._forget_body()
        self._body = []
        self.take_held()
        self.server.lost(self)

    def _received(self, data: bytes) -> None:
        """Bytes that no lane has taken."""
        if not self._in_request and not self._refused:
            taken = self._take_whole(data)
            if taken == len(data) or self._last:
                return
            data = data[taken:]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "the connection cannot be upgraded")
        except httptools.HttpParserError as error:
            if not self._refused and not self._last:
                self._refuse(400, f"this is no HTTP/1.1 request: {error}")

    def _take_whole(self, data: bytes) -> int:
        """Hand on the requests that are whole at the beginning of some bytes; how many bytes they have."""
        heads, start = self.server.heads, 0
        while (end := data.find(_END_OF_HEAD, start) + 4) > 3:
            raw = data[start:end]
            head = heads.known(raw) or heads.learn(raw)
            if head is None or len(data) < end + head.length or self._last:
                break
            start = end + head.length
            if head.turn_away is not None and self._turned_away(head):
                continue
            exchange = self._exchange(self, head, data[end:start])
            if head.keep_alive and not self._waiting:
                self._waiting.append(exchange)
                self.server.handle(exchange)
            else:
                self._hand_on(exchange)
            if start == len(data):
                break
        return start

    def _turned_away(self, head: Head) -> bool:
        """Whether a request was answered without the app; only where that can be told from nothing but its head."""
        server, transport = self.server, self._transport
        if self._waiting or server.watchers or server.draining or not head.keep_alive or transport is None:
            return False
        assert head.turn_away is not None, "it was asked for"
        response = head.turn_away()
        if response is None:
            return False
        self.send(response)
        self._since = server.now
        return True

    def _hand_on(self, exchange: Exchange) -> None:
        self._last = not exchange.head.keep_alive
        self._waiting.append(exchange)
        if len(self._waiting) > self.server.limits.pipelined:
            self._pause()
        self.server.handle(exchange)

    def eof_received(self) -> bool:
        return self._is_asked() and self.server.tls is None  # keep the writing side open; TLS has no such half

    def pause_writing(self) -> None:
        """The client does not read: read nothing more from it."""
        self._pause()

    def resume_writing(self) -> None:
        self._resume()

    # the parser's side

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, []
        self._head_size = self._body_size = 0
        self._since, self._in_request = self.server.now, True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._grow_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow_head(len(name) + len(value) + 4)
        lowered = name.lower()
        self._headers[lowered] = value
        if lowered == b"content-length" and len(value) <= 18 and value.isdigit():
            if int(value) > self.server.limits.body_bytes:
                self._refuse(413, f"the body may have {self.server.limits.body_bytes} bytes at most")
        elif lowered == b"expect" and value.lower() == b"100-continue" and self._transport and not self._waiting:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        self.server.unfinished_bytes += len(body)
        if self._body_size > self.server.limits.body_bytes:
            self._refuse(413, f"the body may have {self.server.limits.body_bytes} bytes at most")
        elif self.server.unfinished_bytes > self.server.limits.unfinished_bytes:
            self._refuse(503, "too many large requests are arriving at once")
        elif not self._refused:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_request = False
        self._forget_body()
        if self._refused:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        method, keep_alive = self._parser.get_method(), self._parser.should_keep_alive()
        self._hand_on(self._exchange(self, Head(method, self._url, self._headers, keep_alive, len(body)), body))

    def _forget_body(self) -> None:
        self.server.unfinished_bytes -= self._body_size
        self._body_size = 0

    # the server's side

    @property
    def peer(self) -> str:
        """The address of the client; empty when it has gone."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if name else ""

    def send_ready(self, keep: bool) -> None:
        """Send the responses at the head of the line."""
        transport, waiting = self._transport, self._waiting
        if transport is None:
            return
        while waiting and waiting[0].response is not None:
            transport.write(waiting.popleft().response or b"")
        if self._paused and len(waiting) <= self.server.limits.pipelined // 2:
            self._resume()
        self._since = self.server.now
        if not keep and not waiting:
            self._close()

    def begin_end(self, now: float) -> None:
        """The server ends: a connection that was busy of late may have sent its next request already."""
        if now - self._since < _BUSY_S:
            self._since = now

    def close_if_idle(self, before: float) -> None:
        """Close unless a request or an answer is under way, or was after that moment."""
        if not self._is_asked() and not self._in_request and self._since <= before:
            self._close()

    def _is_asked(self) -> bool:
        """Whether an answer is due."""
        return bool(self._waiting) or self.under_way > 0

    def _released(self) -> None:
        """The lane has answered: what came meanwhile, and could not pass it, is next."""
        if held := self.take_held():
            self._resume()
            self.data_received(held)

    def check_age(self, now: float) -> None:
        """Close a connection that is too slow with its request, or idle for too long."""
        age = now - self._since
        if self._closing and age > self.server.limits.request_s and self._transport is not None:
            self._transport.abort()  # the client takes nothing of what is left for it
        elif self._in_request and age > self.server.limits.request_s:
            self._refuse(408, f"the request did not arrive within {self.server.limits.request_s:g} s")
        elif not self._in_request and not self._is_asked() and age > self.server.limits.idle_s:
            self._since = now
            self._close()

    def _grow_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self.server.limits.head_bytes:
            self._refuse(431, f"the request's head may have {self.server.limits.head_bytes} bytes at most")

    def _refuse(self, status: int, message: str) -> None:
        """Answer a request that cannot be read to its end, after those before it, and close."""
        if self._refused or self._transport is None:
            return
        self._refused, self._in_request, self._body = True, False, []
        exchange = self._exchange(self, Head(b"POST", self._url, {}, False, 0), b"")
        self._waiting.append(exchange)
        exchange.respond(status, msgspec.json.encode({"error": message}))

    def _close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()


Watcher = Callable[[WatchedExchange, int, int], None]


class HttpServer:
    """Accepts connections and hands each whole request to the app. Lives on one event loop."""

    def __init__(
        self,
        app: Callable[[Exchange], None],
        limits: HttpLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Args:
        app: answers an exchange, now or later; it must not raise.
        tls: how connections are encrypted; None for not at all.
        """
        self.tls = tls
        self.handle = app
        self.limits = limits or HttpLimits()
        self.heads = Heads(self.limits.head_bytes, self.limits.body_bytes)
        self.draining = False
        self.now = time.monotonic()
        self.exchange: type[Exchange] = Exchange
        self.watchers: list[Watcher] = []
        self.unfinished_bytes = 0
        self.when_lost: Callable[[], None] = lambda: None  # is told of each connection that is gone
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def watch(self, watcher: Watcher) -> None:
        """Have each response told from now on: its exchange, status and size in bytes. Before anybody connects."""
        self.watchers.append(watcher)
        self.exchange = WatchedExchange

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; the port, chosen by the system where `port` is 0.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self.start(), host, port, backlog=4096, ssl=self.tls, ssl_handshake_timeout=handshake_s(self.tls)
        )
        return int(self._server.sockets[0].getsockname()[1])

    def start(self) -> Callable[[], HttpConnection]:
        """Watch over the ages of connections from now on; what makes a connection, for who accepts them."""
        self._sweeper = asyncio.create_task(self._sweep(), name="loopwright-sweeper")
        return lambda: HttpConnection(self)

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing new, let answers under way leave, then close everything.

        A client that keeps its connection busy sends its next request while the answer before it arrives, and would
        lose it if the connection were closed then: that request is answered, and told that it was the last.
        """
        self.draining, self.now = True, time.monotonic()
        self.heads.close_lanes()
        if self._server is not None:
            self._server.close()
        end, linger_s = self.now + timeout_s, min(self.limits.linger_s, timeout_s)
        for connection in list(self._connections):
            connection.begin_end(self.now)
        while self._connections and self.now < end:
            for connection in list(self._connections):
                connection.close_if_idle(self.now - linger_s)
            await asyncio.sleep(0.01)
            self.now = time.monotonic()
        for connection in list(self._connections):
            connection._close()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def opened(self, connection: HttpConnection) -> None:
        """A client connected; one too many is turned away."""
        self._connections.add(connection)
        if len(self._connections) > self.limits.connections:
            connection._refuse(503, f"{self.limits.connections} connections are open already")

    def lost(self, connection: HttpConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.when_lost()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.now = time.monotonic()
            for connection in list(self._connections):
                connection.check_age(self.now)
