"""The reading end of a connection: the compiled one, of which lanes take what they can, or a plain one without it.

The compiled part (`_express.c`) is built when the package is installed, where there is a C compiler. Without it
everything works, with fewer requests a second.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from loopwright.core import wants_compiled

if TYPE_CHECKING:
    import asyncio


class PlainConnection:
    """A connection without lanes: all that arrives goes to `_received`."""

    _transport: asyncio.Transport | None = None
    _waiting: deque[Any]
    _known: dict[bytes, Any]
    _in_request = _refused = _last = _closing = False
    _since = 0.0
    _socket = 0
    under_way = 0

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if not self._closing:
            self._received(data)

    def _received(self, data: bytes) -> None:
        raise NotImplementedError

    def send(self, response: bytes) -> None:
        """Send a whole response, behind what was sent before."""
        if self._transport is not None:
            self._transport.write(response)

    def take_held(self) -> bytes:
        """The bytes that were held back behind requests in a lane: none."""
        return b""


Connection: type[PlainConnection] = PlainConnection
if wants_compiled():
    try:
        from loopwright.serve.rest._express import Connection as _Compiled

        Connection = _Compiled
    except ImportError:
        pass
