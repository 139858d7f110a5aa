"""What leaves a connection: frames at once, messages as the caller's windows allow, a turn's worth in one go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from loopwright.serve.grpc import frames
from loopwright.serve.grpc.frames import Trouble

if TYPE_CHECKING:
    from loopwright.serve.grpc.call import Call


class Sending(asyncio.Protocol):
    """The sending half of a connection.

    Attributes:
        window, first_window: how much the caller takes: of all calls, and at first of each.
        most_frame: how long a frame may be for it.
    """

    def __init__(self, unsent_bytes: int) -> None:
        """Args:
        unsent_bytes: how much may wait for the caller to take it.
        """
        self.window = self.first_window = frames.FIRST_WINDOW
        self.most_frame = frames.LEAST_FRAME
        self._unsent_bytes = unsent_bytes
        self._transport: asyncio.Transport | None = None
        self._closing = self._paused = False
        self._out: list[bytes] = []
        self._held: dict[int, Call] = {}  # calls with something to send that the caller has no room for

    def close(self, trouble: Trouble, text: str) -> None:
        """End the connection, and say why."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The client does not read: read nothing more from it."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
        self._pump()

    def write(self, data: bytes) -> None:
        """Send some bytes, soon: what a turn of the event loop has to say leaves with one call of the system."""
        if self._closing:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        """Send what was written."""
        if self._out and self._transport is not None:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._transport.write(data)

    def has_room(self, size: int, window: int) -> bool:
        """Whether so many bytes may leave at once, in one frame."""
        return size <= window and size <= self.window and size <= self.most_frame and not self._held

    def hold(self, call: Call, size: int) -> None:
        """A call has so many bytes more to send, or its end."""
        self._held[call.number] = call
        self._pump()
        if size and sum(one.unsent for one in self._held.values()) > self._unsent_bytes:
            self.close(Trouble.TOO_MUCH, "too many answers wait for the caller to take them")

    def _pump(self) -> None:
        """Send what may be sent, a frame of each call in turn."""
        moved = 1
        while self._held and moved and not self._paused:
            moved = 0
            for number, call in list(self._held.items()):
                size = call.pump(self.window)
                self.window -= size
                moved += size
                if not call.unsent:
                    self._held.pop(number, None)
                    if call.conversation is not None and size:
                        call.conversation.offered()
