"""Kept connections, against a server that behaves well and badly, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from loopwright.core import Unavailable
from loopwright.server.upstream import Upstream

T = TypeVar("T")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def with_server(handler: Handler, use: Callable[[Upstream], Awaitable[T]], limit: int = 4, timeout_s: float = 5) -> T:
    """Run `use` with connections to a server whose every connection is `handler`'s."""

    async def run() -> T:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}", limit=limit, timeout_s=timeout_s)
        try:
            return await use(upstream)
        finally:
            upstream.close()
            server.close()

    return asyncio.run(run())


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one request; the head is empty where the connection ended."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b"", b""
    if b"chunked" not in head:
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, await reader.readexactly(size)
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return head, body


async def whole(upstream: Upstream, body: bytes | AsyncIterator[bytes] = b"") -> tuple[int, bytes]:
    answer = await upstream.ask(b"POST", b"/x", [(b"a", b"b")], body)
    return answer.status, b"".join([part async for part in answer.body()])


def test_a_hundred_exchanges_use_one_connection() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while (await read_request(reader))[0]:
            writer.write(OK)
        writer.close()

    async def use(upstream: Upstream) -> list[tuple[int, bytes]]:
        return [await whole(upstream) for _ in range(100)]

    assert with_server(handle, use) == [(200, b"ok")] * 100
    assert connections == 1


def test_no_more_connections_than_the_limit_are_opened() -> None:
    open_now, most = 0, 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        while (await read_request(reader))[0]:
            await asyncio.sleep(0.01)
            writer.write(OK)
        open_now -= 1
        writer.close()

    async def use(upstream: Upstream) -> list[tuple[int, bytes]]:
        return await asyncio.gather(*(whole(upstream) for _ in range(40)))

    assert with_server(handle, use, limit=4) == [(200, b"ok")] * 40
    assert most == 4


def test_a_body_in_parts_arrives_whole() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 1000):
            part = body[start : start + 1000]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    sent = bytes(range(256)) * 4000

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 70_000):
            yield sent[start : start + 70_000]

    assert with_server(handle, lambda upstream: whole(upstream, parts())) == (200, sent)


def test_a_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        writer.close()

    async def use(upstream: Upstream) -> list[tuple[int, bytes]]:
        found = []
        for _ in range(3):
            found.append(await whole(upstream))
            await asyncio.sleep(0.02)
        return found

    assert with_server(handle, use) == [(200, b"ok")] * 3


def test_a_refusal_before_the_body_ends_is_passed_on_and_the_connection_dropped() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await reader.read()
        writer.close()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000
            await asyncio.sleep(0.005)

    async def use(upstream: Upstream) -> list[tuple[int, bytes]]:
        return [await whole(upstream, parts()) for _ in range(2)]

    assert with_server(handle, use) == [(413, b"no")] * 2
    assert connections == 2


@pytest.mark.parametrize(
    "told",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"],
)
def test_an_answer_that_breaks_off_is_unavailable_and_frees_its_place(told: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(told)
        await writer.drain()
        writer.close()

    async def use(upstream: Upstream) -> None:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await whole(upstream)

    with_server(handle, use, limit=1)


def test_silence_ends_in_time_and_frees_its_place() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def use(upstream: Upstream) -> None:
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"within 0\.1 s"):
                await whole(upstream)

    with_server(handle, use, limit=1, timeout_s=0.1)


def test_nobody_at_the_address_is_unavailable() -> None:
    async def run() -> None:
        with pytest.raises(Unavailable):
            await Upstream("http://127.0.0.1:1", limit=1, timeout_s=1).ask(b"GET", b"/", [], b"")

    asyncio.run(run())


@pytest.mark.slow
def test_a_slow_reader_holds_the_other_side_back() -> None:
    written = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        while written < 50_000_000:
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000
        writer.close()

    async def use(upstream: Upstream) -> int:
        answer = await upstream.ask(b"GET", b"/", [], b"")
        await asyncio.sleep(0.3)
        held = written
        size = sum([len(part) async for part in answer.body()])
        assert size == 50_000_000
        return held

    assert with_server(handle, use, timeout_s=30) < 20_000_000


def test_an_answer_that_is_given_up_does_not_poison_the_next() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        size = 1_000_000 if b"/long" in head else 2
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"o" * size)
        await reader.read()
        writer.close()

    async def use(upstream: Upstream) -> tuple[int, bytes]:
        answer = await upstream.ask(b"GET", b"/long", [], b"")
        answer.close()
        answer.close()
        return await whole(upstream)

    assert with_server(handle, use, limit=1) == (200, b"oo")
