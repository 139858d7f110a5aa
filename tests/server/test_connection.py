"""A request on the short way is answered once, in its turn and to its end, also while the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.server import ServerState

from loopwright.core import Conflict, Unavailable
from loopwright.server.connection import ControlProtocol
from loopwright.server.route import Done, RouteSpec
from loopwright.server.shortcut import Shortcut

BODY = b"12345"
REQUEST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n" + BODY


async def thorough(request: Request) -> Response:
    return PlainTextResponse(b"thorough " + await request.body())


class Short:
    """Stands for the shortcuts: each request waits to be told."""

    def __init__(self, route: RouteSpec) -> None:
        self.route, self.bodies, self.waiting = route, list[bytes](), list[Done]()
        self.taken: bool | Exception = True
        self.told_at_once: list[Exception | None] = []

    def judge(self, head: bytes, _peer: str) -> Shortcut | None:
        return Shortcut(self.route, self.at_once, "p", 5) if head.startswith(b"POST /x") else None

    def at_once(self, _project: str, body: bytes, done: Done) -> bool:
        if isinstance(self.taken, Exception):
            raise self.taken
        if self.taken:
            self.bodies.append(body)
            self.waiting.append(done)
        if self.told_at_once:
            done(self.told_at_once.pop())
        return self.taken

    def good(self, *_: Any) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nshort"

    def refusal(self, *_: Any) -> bytes:
        return b"HTTP/1.1 503 Later\r\ncontent-length: 5\r\n\r\nlater"


Talk = Callable[[Short, ServerState, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(what: Talk) -> None:
    async def run() -> None:
        app = Starlette(routes=[Route("/{path}", thorough, methods=["POST"])])
        app.state.shortcuts = short = Short(RouteSpec("POST", "/x", "runs:write", lambda call: None))  # type: ignore[arg-type,return-value]  # never asked
        config, state = uvicorn.Config(app, http=ControlProtocol, log_config=None, lifespan="off"), ServerState()
        loop = asyncio.get_running_loop()
        made = partial(ControlProtocol, config=config, server_state=state, app_state={})
        server = await loop.create_server(made, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(20):
            await what(short, state, reader, writer)
        writer.close()
        server.close()

    asyncio.run(run())


async def body_of(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_answers_keep_the_order_of_requests_on_both_ways() -> None:
    async def what(short: Short, _state: ServerState, reader: Any, writer: Any) -> None:
        writer.write(REQUEST[:-2])
        await asyncio.sleep(0.01)
        writer.write(REQUEST[-2:])
        await until(lambda: len(short.waiting) == 1)
        writer.write(REQUEST.replace(b"/x", b"/other"))  # comes while the first waits
        writer.write(REQUEST)
        await asyncio.sleep(0.02)
        short.waiting[0](None)
        assert [await body_of(reader) for _ in range(3)] == [b"short", b"thorough 12345", b"thorough 12345"]
        writer.write(REQUEST)
        await until(lambda: len(short.waiting) == 2)
        short.waiting[1](None)
        assert await body_of(reader) == b"short"
        assert short.bodies == [BODY] * 2

    talk(what)


@pytest.mark.parametrize(
    ("error", "answer"), [(Conflict("no"), b"thorough 12345"), (Unavailable("away"), b"later"), (None, b"short")]
)
def test_what_was_refused_is_explained_the_thorough_way(error: Exception | None, answer: bytes) -> None:
    async def what(short: Short, _state: ServerState, reader: Any, writer: Any) -> None:
        writer.write(REQUEST)
        await until(lambda: bool(short.waiting))
        short.waiting[0](error)
        assert await body_of(reader) == answer
        short.taken = RuntimeError("a defect")
        writer.write(REQUEST)
        assert await body_of(reader) == b"thorough 12345"
        short.taken = False
        writer.write(REQUEST)
        assert await body_of(reader) == b"thorough 12345"

    talk(what)


def test_an_answer_may_come_within_the_question() -> None:
    async def what(short: Short, _state: ServerState, reader: Any, writer: Any) -> None:
        for error, answer in ((None, b"short"), (Conflict("no"), b"thorough 12345"), (Unavailable("away"), b"later")):
            for _ in range(2):
                short.told_at_once = [error]
                writer.write(REQUEST)
                assert await body_of(reader) == answer
        writer.write(REQUEST)
        await until(lambda: len(short.waiting) == 7)
        short.waiting[-1](None)
        assert await body_of(reader) == b"short"

    talk(what)


@pytest.mark.parametrize(("sent", "answer"), [(len(REQUEST), b"short"), (len(REQUEST) - 2, b"thorough 12345")])
def test_a_server_that_ends_answers_what_is_under_way(sent: int, answer: bytes) -> None:
    async def what(short: Short, state: ServerState, reader: Any, writer: Any) -> None:
        writer.write(REQUEST[:sent])
        await asyncio.sleep(0.02)
        for connection in list(state.connections):
            connection.shutdown()
        writer.write(REQUEST[sent:])
        for done in short.waiting:
            done(None)
        assert await body_of(reader) == answer
        assert await reader.read() == b""

    talk(what)


def test_a_client_that_has_gone_is_not_answered() -> None:
    async def what(short: Short, state: ServerState, _reader: Any, writer: Any) -> None:
        writer.write(REQUEST)
        await until(lambda: bool(short.waiting))
        writer.close()
        await until(lambda: not state.connections)
        short.waiting[0](None)
        short.waiting[0](Conflict("no"))

    talk(what)
