"""Files through the server, in both directions, in bounded memory: a body as a stream for a blocking reader, and an
object as a reply."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec
from blake3 import blake3
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from loopwright.core import Unavailable
from loopwright.server.route import Call

T = TypeVar("T")
ANY_TYPE = "*/*"
"""A content type that stands for any: of a body that nothing parses."""

_CHUNK_BYTES = 1 << 20
_IDLE_S = 60.0
_WAIT_S = 30.0
_AT_ONCE = 32
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_NAMED_TYPES = {"text/plain", "text/csv", "application/json", "application/pdf"} | {
    f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp")
}
_PLAIN_NAMES = {"mlmodel", "mlproject"}
_PLAIN_ENDS = {"cfg", "conf", "err", "ini", "log", "md", "properties", "py", "rst", "toml", "tsv", "txt", "yaml", "yml"}


class Incoming:
    """A request's body for a blocking reader in a thread of `receive`."""

    def __init__(self, request: Request) -> None:
        self._parts = request.stream()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end.

        Raises:
            ClientDisconnect: the client went away before the end.
            Unavailable: it sends nothing for a minute.
        """
        return anyio.from_thread.run(self._gather, size)

    async def _gather(self, size: int) -> bytes:
        parts, length = [self._rest], len(self._rest)
        while length < size:
            try:
                with anyio.fail_after(_IDLE_S):
                    part = await anext(self._parts, None)
            except TimeoutError:
                raise Unavailable(f"nothing came for {_IDLE_S:g} s", next_step="send the file again") from None
            if part is None:
                break
            parts.append(part)
            length += len(part)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]


class Transfers:
    """Runs uploads in threads of their own, a bounded number at once, so that slow clients keep nobody else waiting."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None

    async def receive(self, call: Call, work: Callable[[Incoming], T]) -> T:
        """Do blocking work with the body of a call.

        Raises:
            Unavailable: too many uploads are under way.
        """
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        incoming, borrower = Incoming(call.request), object()
        try:
            with anyio.fail_after(_WAIT_S):
                await self._limiter.acquire_on_behalf_of(borrower)
        except TimeoutError:
            raise Unavailable(f"{_AT_ONCE} uploads are under way", next_step="try again later") from None
        try:
            return await anyio.to_thread.run_sync(lambda: work(incoming), limiter=anyio.CapacityLimiter(1))
        finally:
            self._limiter.release_on_behalf_of(borrower)


class Outgoing(msgspec.Struct, frozen=True):
    """A file to be sent: its name for the person who saves it, what it must hash to, and the open object, in which it
    starts at `offset`."""

    name: str
    digest: str
    size_bytes: int
    stream: Any
    offset: int = 0


async def send(call: Call, find: Callable[[], Outgoing]) -> Response:
    """The reply that carries a file, as a download that no browser shows, whole or the part that a Range asks for.

    A file whose bytes are damaged is never sent whole: its last part is held back until all of it was verified.

    Raises:
        LoopwrightError: whatever `find` raises.
    """
    file = await call.services.in_thread(find)
    first, last = _range(call.request, file)
    if first > last and file.size_bytes:
        await call.services.in_thread(file.stream.close)
        return Response(status_code=416, headers={"Content-Range": f"bytes */{file.size_bytes}"})
    partial = (first, last) != (0, file.size_bytes - 1)
    headers = {
        "Content-Length": str(last - first + 1),
        "Content-Type": media_type(file.name),
        "Content-Disposition": _disposition(file.name),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "ETag": f'"{file.digest}"',
    }
    if partial:
        headers["Content-Range"] = f"bytes {first}-{last}/{file.size_bytes}"
    body = _pieces(call, file, first, last, verify=not partial)
    return StreamingResponse(body, 206 if partial else 200, headers)


def media_type(name: str) -> str:
    """The type that a file is sent as: only types that do nothing are named; what people write is plain text."""
    if name.lower() in _PLAIN_NAMES or name.rpartition(".")[2].lower() in _PLAIN_ENDS:
        return "text/plain"
    guessed = mimetypes.guess_type(name)[0] or ""
    return guessed if guessed in _NAMED_TYPES else "application/octet-stream"


def _range(request: Request, file: Outgoing) -> tuple[int, int]:
    """The first and last byte that are asked for; where the file has no such part, the first lies behind the last."""
    whole = (0, file.size_bytes - 1)
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    same = request.headers.get("if-range", f'"{file.digest}"') == f'"{file.digest}"'
    if match is None or not same or match.groups() == ("", ""):
        return whole
    start, end = match.groups()
    first = int(start) if start else max(file.size_bytes - int(end), 0)
    return first, min(int(end), whole[1]) if start and end else whole[1]


def _disposition(name: str) -> str:
    """A download under a name (RFC 6266): as it is where it is a token, else also in plain letters for old clients."""
    if _TOKEN.fullmatch(name):
        return f"attachment; filename={name}"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def _pieces(call: Call, file: Outgoing, first: int, last: int, *, verify: bool) -> AsyncIterator[bytes]:
    """The bytes from `first` to `last`, a piece behind what was read, so that the last one is held until verified."""
    stream: BinaryIO = file.stream
    hasher, left, held = blake3(), last - first + 1, b""
    try:
        await call.services.in_thread(lambda: stream.seek(file.offset + first))
        while left:
            piece = await call.services.in_thread(partial(_read, stream, left, hasher if verify else None))
            left -= len(piece)
            if held:
                yield held
            held = piece
        if verify and hasher.hexdigest() != file.digest:
            raise OSError(f"the object {file.digest} is damaged; its last piece was held back")
        yield held
    finally:
        await call.services.in_thread(stream.close)


def _read(stream: BinaryIO, left: int, hasher: Any) -> bytes:
    piece = stream.read(min(_CHUNK_BYTES, left))
    if not piece:
        raise OSError("an object ends before its size says so")
    if hasher is not None:
        hasher.update(piece)
    return piece
