"""A connection of HTTP/2 (RFC 9113) on asyncio, as much of it as gRPC needs: frames in, calls out, windows kept.

A call in two frames, its head like one that was seen before and its message in one piece, is cut out of the bytes as it
is; whatever is unusual takes the longer way through its call's buffer.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, cast

from hpack import HPACKError

from loopwright.core import LoopwrightError, Unavailable
from loopwright.serve.codes import Code
from loopwright.serve.grpc import frames
from loopwright.serve.grpc.call import Call
from loopwright.serve.grpc.frames import HEAD, HEAD_BYTES, Fault, Trouble
from loopwright.serve.grpc.heads import MOST_BYTES, MOST_LIST_BYTES, HeadReader
from loopwright.serve.grpc.sending import Sending

if TYPE_CHECKING:
    from loopwright.serve.grpc.server import GrpcServer

_LAST_CALL_S = 0.25  # after the first GOAWAY: what the caller had sent by then has arrived
_MOST_RESETS = 2_000  # by the caller, more than there were answers
_LEAVING = b"leaving "


class Connection(Sending):
    """One client's connection."""

    def __init__(self, server: GrpcServer) -> None:
        super().__init__(server.limits.unsent_bytes)
        self.server = server
        self.calls: dict[int, Call] = {}
        self.peer = ""
        self._credit = server.limits.window  # what we take
        self._heads = HeadReader()
        self._buffer = b""
        self._greeted = self._configured = False
        self._last = self._last_taken = 0
        self._block: tuple[int, int, bytearray] | None = None  # a head that is not whole: its stream, its flags
        self._resets = self._answered = 0
        self._leaving = False
        self._since = time.monotonic()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        name, plug = transport.get_extra_info("peername"), transport.get_extra_info("socket")
        self.peer = str(name[0]) if name else ""
        if plug is not None:  # a peer that is no longer there is found out by the system
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        limits = self.server.limits
        taken = {
            frames.STREAMS: limits.streams,
            frames.WINDOW: limits.stream_window,
            frames.FRAME_SIZE: limits.frame_bytes,
            frames.LIST_SIZE: MOST_LIST_BYTES,
        }
        self.write(frames.settings(taken) + frames.window_update(0, limits.window - frames.FIRST_WINDOW))
        self.server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for call in list(self.calls.values()):
            call.lost()
        self.server.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._buffer:
            data = self._buffer + data
        try:
            self._buffer = self._read(data)
        except Fault as fault:
            self.close(fault.trouble, fault.text)
        except HPACKError as error:
            self.close(Trouble.COMPRESSION, str(error))

    def _read(self, data: bytes) -> bytes:
        """Take the frames that are whole; what is left."""
        at, end = 0, len(data)
        if not self._greeted:
            if not data.startswith(frames.PREFACE[: min(end, len(frames.PREFACE))]):
                raise Fault(Trouble.PROTOCOL, f"this port speaks gRPC: HTTP/2 {self.server.manner}")
            if end < len(frames.PREFACE):
                return data
            self._greeted, at = True, len(frames.PREFACE)
        most = self.server.limits.frame_bytes
        while end - at >= HEAD_BYTES:
            upper, lower, kind, flags, number = HEAD.unpack_from(data, at)
            size = upper << 16 | lower
            if size > most:
                raise Fault(Trouble.FRAME_SIZE, f"a frame of {size} bytes; at most {most} are taken")
            start = at + HEAD_BYTES
            at = start + size
            if at > end:
                return data[start - HEAD_BYTES :]
            if kind == frames.DATA and self._block is None:
                self._data(data, start, at, flags, number & frames.MOST_WINDOW)
            else:
                self._take(kind, flags, number & frames.MOST_WINDOW, data[start:at])
            if self._closing:
                return b""
        return data[at:]

    # frames

    def _data(self, data: bytes, start: int, end: int, flags: int, number: int) -> None:
        size, limits = end - start, self.server.limits
        self._credit -= size
        if self._credit < limits.window // 2:
            if self._credit < 0:
                raise Fault(Trouble.FLOW_CONTROL, "more than the window allows")
            self.write(frames.window_update(0, limits.window - self._credit))
            self._credit = limits.window
        call = self.calls.get(number)
        if call is None or call.half_closed:
            if number > self._last or not number & 1:
                raise Fault(Trouble.PROTOCOL, "data for a stream that was never opened")
            return  # it has been answered already, or was cancelled
        if (
            flags == frames.END_STREAM
            and call.is_fresh
            and size >= 5
            and not data[start]
            and int.from_bytes(data[start + 1 : start + 5], "big") == size - 5 <= limits.message_bytes
        ):
            call.half_closed = True
            self.server.take(call, data[start + 5 : end])
            return
        self._pieces(call, data[start:end], flags)

    def _pieces(self, call: Call, payload: bytes, flags: int) -> None:
        """A message that does not come in one piece, or a call of several messages."""
        size = len(payload)
        if flags & frames.PADDED:
            payload = frames.without_padding(payload, flags)
        try:
            call.received(payload, size)
            if self.server.unfinished_bytes > self.server.limits.unfinished_bytes:
                raise Unavailable("too many large requests are arriving at once", next_step="try again in a second")
        except LoopwrightError as error:
            call.refuse(error)
            return
        self._arrived(call, ended=bool(flags & frames.END_STREAM))

    def _arrived(self, call: Call, *, ended: bool) -> None:
        """Hand on what has arrived of a call."""
        call.half_closed = call.half_closed or ended
        if call.conversation is not None:
            call.conversation.offered()
        elif call.half_closed:
            self.server.take_pieces(call)

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Any frame but the usual DATA."""
        if self._block is not None and (kind != frames.CONTINUATION or number != self._block[0]):
            raise Fault(Trouble.PROTOCOL, "a head was begun and not ended")
        if not self._configured and kind != frames.SETTINGS:
            raise Fault(Trouble.PROTOCOL, "settings come first")
        if kind == frames.HEADERS:
            self._headers(flags, number, frames.without_padding(payload, flags, priority=True))
        elif kind == frames.CONTINUATION:
            self._headers_go_on(flags, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == frames.RST_STREAM:
            self._reset(number, payload)
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.PING:
            self._ping(flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise Fault(Trouble.PROTOCOL, "a client has nothing to push")
        # PRIORITY is obsolete, GOAWAY is followed by the end anyway, and unknown kinds are to be passed over

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        if flags & frames.END_HEADERS:
            self._head(number, block, ended=bool(flags & frames.END_STREAM))
        else:
            self._block = number, flags, bytearray(block)

    def _headers_go_on(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise Fault(Trouble.PROTOCOL, "a head goes on that was never begun")
        number, first, block = self._block
        block += payload
        if len(block) > MOST_BYTES or not payload:
            raise Fault(Trouble.TOO_MUCH, f"a head may have {MOST_BYTES} bytes at most")
        if flags & frames.END_HEADERS:
            self._block = None
            self._head(number, bytes(block), ended=bool(first & frames.END_STREAM))

    def _head(self, number: int, block: bytes, *, ended: bool) -> None:
        if len(block) > MOST_BYTES:
            raise Fault(Trouble.TOO_MUCH, f"a head may have {MOST_BYTES} bytes at most")
        head = self._heads.read(block)  # whatever becomes of it, as later heads build on it
        if number <= self._last or not number & 1:
            self._trailers(number, ended=ended)
            return
        self._last = number
        if self._leaving or len(self.calls) >= self.server.limits.streams:
            self.write(frames.reset(number, Trouble.REFUSED))
            return
        self._last_taken = number
        call = self.calls[number] = Call(self, number, head)
        self.server.begin(call)
        if ended and number in self.calls:
            self._arrived(call, ended=True)

    def _trailers(self, number: int, *, ended: bool) -> None:
        """A second head: it ends the messages of a call. One that was answered already may still get it."""
        if not number & 1:
            raise Fault(Trouble.PROTOCOL, "a stream of a client has an odd number")
        call = self.calls.get(number)
        if call is None:
            return
        if not ended or call.half_closed:
            raise Fault(Trouble.PROTOCOL, "a second head that ends nothing")
        self._arrived(call, ended=True)

    def _window_update(self, number: int, payload: bytes) -> None:
        size = int.from_bytes(payload, "big") & frames.MOST_WINDOW
        if len(payload) != 4:
            raise Fault(Trouble.FRAME_SIZE, "a window update has four bytes")
        call = self.calls.get(number)
        if number and (call is None or not size):
            if call is not None:
                self.write(frames.reset(number, Trouble.PROTOCOL))
                call.lost()
            return
        found = size + (self.window if call is None else call.window)
        if not size or found > frames.MOST_WINDOW:
            raise Fault(Trouble.FLOW_CONTROL if size else Trouble.PROTOCOL, f"a window of {found} bytes")
        if call is None:
            self.window = found
        else:
            call.window = found
        if self._held:
            self._pump()

    def _reset(self, number: int, payload: bytes) -> None:
        if len(payload) != 4 or number > self._last or not number:
            raise Fault(Trouble.PROTOCOL, "a reset of no stream")
        self._resets += 1
        if self._resets > _MOST_RESETS + self._answered:
            raise Fault(Trouble.TOO_MUCH, "too many calls were cancelled")
        call = self.calls.get(number)
        if call is not None:
            call.lost()
            self._answered -= 1  # it was not

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        self._configured = True
        for key, value in frames.read_settings(payload):
            if key == frames.WINDOW:
                for call in self.calls.values():
                    call.window += value - self.first_window
                self.first_window = value
            elif key == frames.FRAME_SIZE:
                self.most_frame = min(value, self.server.limits.frame_bytes)
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._pump()

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Fault(Trouble.FRAME_SIZE, "a ping has eight bytes")
        if not flags & frames.ACK:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _LEAVING:
            self._leave()

    # what calls ask

    def ended(self, call: Call) -> None:
        """A call is over."""
        self.calls.pop(call.number, None)
        self._held.pop(call.number, None)
        self._answered += 1
        if not self.calls:  # there is nothing to wait for
            self._flush()
        if self._leaving and not self.calls:
            self.close(Trouble.NONE, "")

    # the server's side

    def check_age(self, now: float) -> None:
        """End what is too slow: a greeting, or a message that does not arrive."""
        limit = self.server.limits.request_s
        if self._closing and now - self._since > limit and self._transport is not None:
            self._transport.abort()  # the client takes nothing of what is left for it
        if not self._greeted and now - self._since > limit:
            self.close(Trouble.TOO_MUCH, "no greeting")
        for call in list(self.calls.values()):
            if not call.half_closed and call.conversation is None and now - call.since * 1e-9 > limit:
                call.finish(Code.DEADLINE_EXCEEDED, f"the request did not arrive within {limit:g} s")

    def drain(self) -> None:
        """Take what has been sent by now, and nothing after that."""
        self.write(frames.go_away(frames.MOST_WINDOW) + frames.frame(frames.PING, 0, 0, _LEAVING))
        asyncio.get_running_loop().call_later(_LAST_CALL_S, self._leave)
        for call in list(self.calls.values()):
            if call.conversation is not None:
                call.conversation.drain()

    def _leave(self) -> None:
        if self._leaving or self._closing:
            return
        self._leaving = True
        self.write(frames.go_away(self._last_taken))
        if not self.calls:
            self.close(Trouble.NONE, "")

    def end(self) -> None:
        """Answer nothing more."""
        for call in list(self.calls.values()):
            call.finish(Code.UNAVAILABLE, "the server ends")
        self.close(Trouble.NONE, "")

    def close(self, trouble: Trouble, text: str) -> None:
        """End the connection, and say why."""
        if self._transport is None or self._closing:
            return
        if not self._leaving or trouble:
            self.write(frames.go_away(self._last_taken, trouble, text))
        self._flush()
        self._closing, self._since = True, time.monotonic()
        self._transport.close()
        for call in list(self.calls.values()):
            call.lost()
