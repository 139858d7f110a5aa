"""A client's connection to the control app: uvicorn's, with the short way (`loopwright.server.shortcut`) before it."""

from __future__ import annotations

import time
from typing import Any

from loopwright.core import Unavailable
from loopwright.server.joining import JoiningProtocol
from loopwright.server.shortcut import Shortcut, Shortcuts

_MOST_HEADS, _LARGEST_HEAD = 64, 4_096
"""How many heads a connection remembers, and how large each may be, in bytes."""
_END = b"\r\n\r\n"


class ControlProtocol(JoiningProtocol):
    """Takes a request on the short way while none is under way on the thorough one, and the other way round; what
    comes before its answer has left waits."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._shortcuts: Shortcuts = self.config.app.state.shortcuts  # type: ignore[union-attr]  # Starlette's app
        self._heads: dict[bytes, Shortcut | None] = {}
        self._reading = False
        """Whether the thorough way is inside a message."""
        self._way: Shortcut | None = None
        self._head, self._body = b"", bytearray()
        self._started = 0.0
        self._asking = self._ending = False
        self._later: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        if self._asking:
            self._later.append(data)
            self.flow.pause_reading()
        elif self._way is not None:
            self._take(data)
        elif data.startswith(b"POST ") and self._is_free() and (end := data.find(_END) + len(_END)) >= len(_END):
            head = data[:end]
            way = self._judged(head)
            if way is None:
                super().data_received(data)
                return
            self._unset_keepalive_if_required()
            self._way, self._head, self._body, self._started = way, head, bytearray(), time.perf_counter()
            self._take(data[end:])
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        self._reading = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._reading = False
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._asking:
            self._ending = True
            return
        if self._way is not None:
            self._go_the_thorough_way()
        super().shutdown()

    def _is_free(self) -> bool:
        idle = self.cycle is None or self.cycle.response_complete
        return idle and not (self._reading or self.pipeline or self.flow.write_paused)

    def _judged(self, head: bytes) -> Shortcut | None:
        try:
            return self._heads[head]
        except KeyError:
            way = self._shortcuts.judge(head, self.client[0] if self.client else "")
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            if len(head) <= _LARGEST_HEAD:
                self._heads[head] = way
            return way

    def _take(self, data: bytes) -> None:
        """More of the body; a request that is whole is asked."""
        way = self._way
        assert way is not None
        self._body += data
        missing = way.length - len(self._body)
        if missing < 0 or (missing == 0 and not self._is_taken(way)):
            self._go_the_thorough_way()

    def _is_taken(self, way: Shortcut) -> bool:
        """Whether the request is being answered, or has been."""
        self._asking = True
        try:
            taken = way.at_once(way.project, bytes(self._body), self._answer)
        except Exception:  # noqa: BLE001 - a defect, which the thorough way meets again, logs and tells
            taken = False
        self._asking &= taken
        return taken

    def _answer(self, error: BaseException | None) -> None:
        way, taken = self._way, time.perf_counter() - self._started
        self._asking = False
        if way is None or self.transport.is_closing():
            return
        headers = self.server_state.default_headers
        if error is None:
            reply = self._shortcuts.good(way.route, headers, taken)
        elif isinstance(error, Unavailable):
            reply = self._shortcuts.refusal(way.route, headers, taken, error)
        else:  # Nothing of it was stored: the thorough way says why.
            self._go_the_thorough_way()
            return
        self._way = None
        self.write_now(reply)
        self.on_response_complete()
        if self._ending:
            self.transport.close()
        elif self._later:
            self._go_on()

    def _go_on(self) -> None:
        data = b"".join(self._later)
        self._later.clear()
        self.data_received(data)

    def _go_the_thorough_way(self) -> None:
        data = self._head + bytes(self._body)
        self._way = None
        super().data_received(data)
        if self._ending:
            super().shutdown()
        elif self._later:
            self._go_on()
