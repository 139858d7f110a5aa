"""A small HTTP/1.1 load generator: the same for every server, so that no server is measured through a better client.

The parent of asyncio's protocols reads a reply to the end of its body by the Content-Length that it names; nothing
else of it is looked at in the hot path but the status. `ceiling()` measures the generator itself, against a server in
another process that answers at once without reading what it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

TIMEOUT_S = 300.0
ECHO = """
import asyncio, uvloop
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data):
        if b"metric" in data[-200:] or b"}" in data[-2:]:
            head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 2\\r\\n\\r\\n"
            self.transport.write(head + b"{}")
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


class _Connection(asyncio.Protocol):
    """One kept-alive connection, which sends the next request when the answer to the last has been read."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self.requests, self.done = requests, done
        self.answers: list[bytes] = []
        self.body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._next()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        answer = b"".join(self.body)
        if self.parser.get_status_code() != 200:
            self._fail(f"answered {self.parser.get_status_code()}: {answer[:300]!r}")
            return
        self.answers.append(answer)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"closed the connection: {error}")

    def _next(self) -> None:
        self.parser, self.body = httptools.HttpResponseParser(self), []
        request = next(self.requests, None)
        if request is not None:
            self.transport.write(request)
            return
        if not self.done.done():
            self.done.set_result(None)
        self.transport.close()

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server {why}"))
        self.transport.close()


def request(url: str, method: str, path: str, body: Any = None) -> bytes:
    """The bytes of one request; `body` goes as JSON."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAccept: application/json\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"\r\n" + data


def send(url: str, streams: list[list[bytes]]) -> tuple[list[list[bytes]], float]:
    """Send each list over a connection of its own, all at once; the answers' bodies, and the seconds taken.

    Raises:
        RuntimeError: an answer was not 200, or a connection was closed early.
    """
    return uvloop.run(_send(url, streams))


async def _send(url: str, streams: list[list[bytes]]) -> tuple[list[list[bytes]], float]:
    loop, place = asyncio.get_running_loop(), urlsplit(url)
    started = time.perf_counter()
    waiting: list[asyncio.Future[None]] = []
    connections: list[_Connection] = []
    for stream in streams:
        done = loop.create_future()
        made = partial(_Connection, iter(stream), done)
        _, connection = await loop.create_connection(made, str(place.hostname), int(place.port or 80))
        waiting.append(done)
        connections.append(connection)
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*waiting)
    return [connection.answers for connection in connections], time.perf_counter() - started


@contextlib.contextmanager
def raw_answers(url: str) -> Iterator[Callable[[bytes], bytes]]:
    """What sends a request and gives its answer's body, one after the other over one kept-alive connection.

    Raises:
        RuntimeError: an answer is not 200.
    """
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), int(place.port or 80)), TIMEOUT_S) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield lambda data: _ask(link, data)


@contextlib.contextmanager
def one_by_one(url: str) -> Iterator[Callable[[bytes], Any]]:
    """The same, with each answer as values."""
    with raw_answers(url) as answer:
        yield lambda data: msgspec.json.decode(answer(data))


def _ask(link: socket.socket, data: bytes) -> bytes:
    link.sendall(data)
    answer = http.client.HTTPResponse(link)
    answer.begin()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the server answered {answer.status}: {body[:300]!r}")
    return body


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    """One request's answer as values."""
    [[answer]], _ = send(url, [[request(url, method, path, body)]])
    return json.loads(answer)


def echo() -> tuple[subprocess.Popen[bytes], str]:
    """A process that answers every request with `{}` at once, and its address."""
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"


def ceiling(requests_each: int = 3_000) -> float:
    """Requests a second over 8 connections that this generator reaches when the server costs next to nothing."""
    process, url = echo()
    try:
        body = {"run_id": "0" * 32, "key": "metric", "value": 0.5, "timestamp": 1, "step": 0}
        stream = [request(url, "POST", "/api/2.0/mlflow/runs/log-metric", body)] * requests_each
        return 8 * requests_each / send(url, [stream] * 8)[1]
    finally:
        process.kill()
        process.wait()
