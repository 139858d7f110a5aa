"""Who of several workers accepts a connection: the one with the fewest.

All workers wait on one listening socket. The system wakes whoever is free, and one that is woken first would take
everything. So each leaves a connection to another for a few milliseconds while that one has fewer; if nobody came, it
takes the connection after all. A turn of a busy worker is long: where nobody has fewer, it takes several in one.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from loopwright.serve.tls import handshake_s
from loopwright.serve.workers.board import Board

_YIELD_S = 0.002
_YIELDS = 3
_SLACK = 1
_AT_ONCE = 64
_DEAD_S = 1.0
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FULL_PAUSE_S = 0.1


class Acceptor:
    """Accepts connections of a listening socket that other processes share. Lives on one event loop."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        board: Board,
        place: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Args:
        listener: bound and listening.
        protocol: makes what handles one connection.
        board: where the workers tell how many connections they have.
        place: this worker's line on it.
        tls: how connections are encrypted; None for not at all.
        """
        self._tls = tls
        self._listener, self._protocol, self._board, self._place = listener, protocol, board, place
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._yields = 0
        self._closed = False
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._ready)

    @property
    def opening(self) -> int:
        """How many connections are accepted and not yet open."""
        return len(self._opening)

    def close(self) -> None:
        """Accept nothing more; the others go on."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    def _ready(self) -> None:
        """The socket has connections for somebody."""
        for _ in range(_AT_ONCE):
            if self._yields < _YIELDS and self._others_have_fewer():
                self._yields += 1
                self._pause(_YIELD_S)
                return
            self._yields = 0
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Take a connection; whether there was one."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another worker was quicker, or the caller has gone
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._pause(_FULL_PAUSE_S)  # no descriptor is left: the connection waits in the system's queue
            return False
        connection.setblocking(False)
        self._board.note_connections(self._place, self._board.read(self._place).connections + 1)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._tls, ssl_handshake_timeout=handshake_s(self._tls)
            )
        except OSError:
            connection.close()  # it was gone before we looked, or does not speak TLS

    def _others_have_fewer(self) -> bool:
        mine = self._board.read(self._place).connections
        for place in range(self._board.places):
            if place != self._place:
                line = self._board.read(place)
                if line.pid and line.connections + _SLACK < mine + 1 and line.silent_s < _DEAD_S:
                    return True
        return False

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._ready)
