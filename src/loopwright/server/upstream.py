"""Kept connections to one server on this machine: HTTP/1.1 over asyncio and httptools, for the hot path to inference.

A general client spends a millisecond of CPU on what takes a tenth of it here: no redirects, no TLS, no proxies, no
decoding. Bodies stream both ways, and a slow reader holds the other side back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httptools

from loopwright.core import Unavailable

_CONNECT_S = 2.0
_HIGH_WATER = 1 << 18
Header = tuple[bytes, bytes]


class Connection(asyncio.Protocol):
    """One connection: one exchange at a time."""

    def __init__(self) -> None:
        self.alive, self.complete, self.spoilt = False, True, False
        self.status, self.headers = 0, list[Header]()
        self._head_done = False
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: Any = None
        self._parser: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.alive = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self.complete:  # nothing was asked: the other side does not keep the protocol
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status, self._head_done = self._parser.get_status_code(), True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if self._size > _HIGH_WATER:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self.complete = True
        if not self._parser.should_keep_alive():
            self.close()

    def begin(self, head: bytes) -> None:
        """Send the head of a request (with a whole body, if it is small)."""
        self.status, self.headers, self._head_done, self.complete = 0, [], False, False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(head)

    async def send(self, part: bytes) -> None:
        """Send a part of the body; waits while the other side reads too slowly.

        Raises:
            Unavailable: the connection is lost.
        """
        await self._writable.wait()
        if not self.alive:
            raise _lost()
        self._transport.write(part)

    async def answered(self) -> None:
        """Wait for the head of the answer.

        Raises:
            Unavailable: the connection was lost before it came.
        """
        while not self._head_done:
            await self._news()

    async def chunk(self) -> bytes:
        """The next part of the answer's body; empty at its end.

        Raises:
            Unavailable: the connection was lost in the middle.
        """
        while not self._chunks:
            if self.complete:
                return b""
            await self._news()
        found = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self.alive:
            self._transport.resume_reading()
        return found

    def close(self) -> None:
        """Close the connection at once."""
        self.alive = False
        if self._transport is not None:
            self._transport.abort()

    async def _news(self) -> None:
        if not self.alive:
            raise _lost()
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Answer:
    """What came back. Its body must be read to the end, or the answer closed, to free the connection."""

    def __init__(self, upstream: Upstream, connection: Connection) -> None:
        self.status, self.headers = connection.status, connection.headers
        self._upstream = upstream
        self._connection: Connection | None = connection

    async def whole_if_here(self) -> bytes | None:
        """The body, if all of it has come already; then the connection is free again."""
        if self._connection is None or not self._connection.complete:
            return None
        body = await self._connection.chunk()
        self.close()
        return body

    async def body(self) -> AsyncIterator[bytes]:
        """The body, part by part.

        Raises:
            Unavailable: the connection was lost in the middle.
        """
        try:
            while self._connection is not None and (part := await self._connection.chunk()):
                yield part
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back, or close it if something of the answer is still to come. Twice does no harm."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._upstream.free(connection)


class Upstream:
    """Connections to one address, at most `limit` at once. Lives in one event loop."""

    def __init__(self, url: str, *, limit: int, timeout_s: float) -> None:
        parts = urlsplit(url)
        self.url, self._host, self._port = url, parts.hostname or "127.0.0.1", parts.port or 80
        self._authority = parts.netloc.encode()
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []

    async def ask(
        self, method: bytes, target: bytes, headers: Iterable[Header], body: bytes | AsyncIterator[bytes]
    ) -> Answer:
        """Send a request and wait for the head of the answer.

        Args:
            method: GET or POST.
            target: path and query, as they shall be sent.
            headers: without Host, Content-Length, Transfer-Encoding and Connection.
            body: whole, or parts of unknown length.

        Raises:
            Unavailable: nobody answers, or not in time, or too many requests are under way.
        """
        head = [method, b" ", target, b" HTTP/1.1\r\nhost: ", self._authority, b"\r\n"]
        for name, value in headers:
            head += [name, b": ", value, b"\r\n"]
        whole = isinstance(body, bytes)
        size = b"content-length: %d" % len(body) if isinstance(body, bytes) else b"transfer-encoding: chunked"
        head += [size, b"\r\n\r\n", body if isinstance(body, bytes) else b""]
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connection()
                try:
                    connection.begin(b"".join(head))
                    if not whole:
                        await _send_parts(connection, body)  # type: ignore[arg-type]  # it is no bytes here
                    await connection.answered()
                except BaseException:
                    connection.close()
                    self.free(connection)
                    raise
        except TimeoutError:
            raise Unavailable(f"no answer came within {self._timeout_s:g} s", next_step="try again") from None
        return Answer(self, connection)

    def free(self, connection: Connection) -> None:
        """Take a connection back; one whose answer was not read to its end is closed."""
        if connection.alive and connection.complete and not connection.spoilt:
            self._idle.append(connection)
        else:
            connection.close()
        self._slots.release()

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> Connection:
        await self._slots.acquire()
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
        try:
            async with asyncio.timeout(_CONNECT_S):
                loop = asyncio.get_running_loop()
                _, made = await loop.create_connection(Connection, self._host, self._port)
            return made
        except BaseException as error:
            self._slots.release()
            if isinstance(error, OSError):  # TimeoutError is one
                raise _lost() from None
            raise


async def _send_parts(connection: Connection, parts: AsyncIterator[bytes]) -> None:
    """A body in chunks (RFC 9112 §7.1). An answer that comes before its end, a refusal, ends the sending."""
    async for part in parts:
        if connection.status:
            connection.spoilt = True
            return
        if part:
            await connection.send(b"%x\r\n%b\r\n" % (len(part), part))
    with suppress(Unavailable):  # the answer may be there although the connection is closed
        await connection.send(b"0\r\n\r\n")


def _lost() -> Unavailable:
    return Unavailable("the inference process does not answer", next_step="try again in a second")
