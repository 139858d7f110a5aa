"""One write to the socket for the head and the body of a reply, where uvicorn would make two: half the system calls,
half the packets, and a client that reads once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_AT_ONCE_BYTES = 1 << 16


class JoiningProtocol(HttpToolsProtocol):
    """Uvicorn's protocol over a transport that gathers what is written within one turn of the event loop."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own is untyped here
        super().connection_made(cast(asyncio.Transport, _Joining(transport, self.loop)))

    def write_now(self, data: bytes) -> None:
        """Write behind what was written before, without waiting for more."""
        joining = cast(_Joining, self.transport)
        joining.write(data)
        joining.flush()


class _Joining:
    """A transport that hands small writes on together, in order, at the loop's next turn; a large one goes at once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        if len(data) > _AT_ONCE_BYTES:
            self.flush()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Hand on what was written."""
        if self._parts:
            together = b"".join(self._parts)
            self._parts.clear()
            self._transport.write(together)
