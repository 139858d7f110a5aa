"""A call: one stream of a connection, its messages in, its answers out."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, Protocol

from loopwright.core import Invalid
from loopwright.serve.codes import Code, TooLarge, Unimplemented, code_of
from loopwright.serve.grpc import frames, heads
from loopwright.serve.grpc.frames import DATA, END_HEADERS, END_STREAM, HEADERS, Trouble
from loopwright.serve.watching import WatchedCall

if TYPE_CHECKING:
    from loopwright.serve.grpc.connection import Connection

_PREFIX = 5  # of a message: whether it is compressed, and its length
_HEAD_FRAME = frames.frame(HEADERS, END_HEADERS, 0, heads.START)[:5]
_END_FRAME = frames.frame(HEADERS, END_HEADERS | END_STREAM, 0, heads.END_OK)[:5]
_DATA_FLAGS = b"\0\0"
_INFLATED = {b"gzip": 31, b"deflate": 15}


class Conversation(Protocol):
    """What takes the messages of a call that has any number of them."""

    def offered(self) -> None:
        """There are messages in the call's inbox; or there are none, and none will come."""
        ...

    def drain(self) -> None:
        """The process is about to end."""
        ...


class Call:
    """One call. Whoever handles it calls `answer`, `refuse` or `finish` once, unless it is gone by then.

    Attributes:
        started_ns: when its message had arrived, on the monotonic clock.
        deadline_ns: until when the caller waits; 0 for ever.
        endpoint: the handler's, for counts and logs: who answers.
        inbox: of a conversation: messages that nobody has taken.
        half_closed: whether all messages have arrived.
    """

    __slots__ = (
        "_begun", "_buffer", "_connection", "_credit", "_ending", "_size_out", "_timer", "_unsent", "conversation",
        "deadline_ns", "endpoint", "half_closed", "head", "inbox", "number", "peer", "since", "size",
        "started_ns", "window",
    )  # fmt: skip

    def __init__(self, connection: Connection, number: int, head: heads.Head) -> None:
        self._connection: Connection | None = connection
        self.number, self.head, self.peer = number, head, connection.peer
        self.window, self._credit = connection.first_window, connection.server.limits.stream_window
        self.started_ns = self.since = time.monotonic_ns()
        self.deadline_ns = self.started_ns + head.timeout_ns if head.timeout_ns else 0
        self.endpoint = ""
        self.half_closed = False
        self.size = self._size_out = 0
        self.inbox: deque[bytes] = deque()
        self.conversation: Conversation | None = None
        self._buffer = bytearray()
        self._unsent = bytearray()
        self._ending: bytes | None = None
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None

    # what logs and traces ask

    @property
    def path(self) -> bytes:
        """Such as `/inference.GRPCInferenceService/ModelInfer`."""
        return self.head.path

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The caller's metadata, by name; not to be changed."""
        return self.head.headers

    @property
    def is_open(self) -> bool:
        """Whether an answer is still wanted."""
        return self._connection is not None and self._ending is None

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has arrived of a message that is the call's only one."""
        return not self._buffer and not self.inbox and self.conversation is None

    @property
    def is_torn(self) -> bool:
        """Whether a part of a message has arrived."""
        return bool(self._buffer)

    @property
    def unsent(self) -> int:
        """How many bytes wait for the caller to take them."""
        return len(self._unsent)

    # messages in

    def received(self, payload: bytes, taken: int) -> None:
        """A piece of the messages has arrived.

        Args:
            taken: the size of the frame that it came in.

        Raises:
            TooLarge: the message is too long.
            Invalid: it is damaged.
            Unimplemented: it is compressed in a way that is not known here.
        """
        connection = self._connection
        if connection is None:
            return
        buffer = self._buffer
        buffer += payload
        connection.server.unfinished_bytes += len(payload)
        self._credit -= taken
        most = connection.server.limits.message_bytes
        while len(buffer) >= _PREFIX:
            size = int.from_bytes(buffer[1:_PREFIX], "big")
            if size > most:
                raise TooLarge(f"the message has {size} bytes; at most {most} are taken")
            if len(buffer) < _PREFIX + size:
                break
            message = bytes(buffer[_PREFIX : _PREFIX + size])
            is_packed = buffer[0]
            del buffer[: _PREFIX + size]
            self.inbox.append(self._plain(message, most) if is_packed else message)
            if is_packed:
                connection.server.unfinished_bytes += len(self.inbox[-1]) - size
            connection.server.unfinished_bytes -= _PREFIX
        self.allow_more()

    def take(self) -> bytes:
        """The oldest message of the inbox."""
        message = self.inbox.popleft()
        if self._connection is not None:
            self._connection.server.unfinished_bytes -= len(message)
        self.started_ns, self.size = time.monotonic_ns(), len(message)
        if not self.inbox:
            self.allow_more()
        return message

    def allow_more(self) -> None:
        """Let the caller send more, unless there is a message that nobody has taken."""
        connection = self._connection
        if connection is None or self.half_closed or self.inbox:
            return
        whole = connection.server.limits.stream_window
        if self._credit < whole // 2:
            connection.write(frames.window_update(self.number, whole - self._credit))
            self._credit = whole

    def _plain(self, message: bytes, most: int) -> bytes:
        how = self.headers.get(b"grpc-encoding", b"identity")
        if how not in _INFLATED:
            raise Unimplemented(
                f"messages compressed by {how.decode('latin-1')[:20]!r} are not taken", next_step="use gzip or deflate"
            )
        inflate = zlib.decompressobj(_INFLATED[how])
        try:
            found = inflate.decompress(message, most)
        except zlib.error as error:
            raise Invalid(f"the message cannot be decompressed: {error}") from None
        if inflate.unconsumed_tail:
            raise TooLarge(f"the message has more than {most} bytes when it is no longer compressed")
        if not inflate.eof:
            raise Invalid("the message cannot be decompressed: it ends too early")
        return found

    # answers out

    def answer(self, message: bytes, more: bytes = b"") -> None:
        """Answer with one message, and end the call well.

        Args:
            more: fields of the trailers, as `heads.field` gives them.
        """
        connection = self._connection
        if connection is None or self._ending is not None:
            return
        size = len(message) + _PREFIX
        if more or not self.half_closed or not connection.has_room(size, self.window):
            self.send(message)
            self.finish(Code.OK, "", more)
            return
        connection.window -= size
        number = self.number.to_bytes(4, "big")
        connection.write(
            b"".join(
                (
                    _HEAD_FRAME, number, heads.START, size.to_bytes(3, "big"), _DATA_FLAGS, number, b"\0",
                    (size - _PREFIX).to_bytes(4, "big"), message, _END_FRAME, number, heads.END_OK,
                )
            )
        )  # fmt: skip
        if connection.server.watchers:
            self.told(Code.OK, size - _PREFIX)
        self._gone()

    def send(self, message: bytes) -> None:
        """Answer with a message; there may be more."""
        connection = self._connection
        if connection is None or self._ending is not None:
            return
        if not self._begun:
            self._begun = True
            connection.write(frames.frame(HEADERS, END_HEADERS, self.number, heads.START))
        self._unsent += b"\0" + len(message).to_bytes(4, "big")
        self._unsent += message
        self._size_out += len(message)
        connection.hold(self, len(message) + _PREFIX)

    def finish(self, code: Code, text: str = "", more: bytes = b"") -> None:
        """End the call, when all that was sent has left."""
        connection = self._connection
        if connection is None or self._ending is not None:
            return
        head = b"" if self._begun else heads.START
        self._ending = head + heads.trailers(code, text, more)
        if connection.server.watchers and self.conversation is None:
            self.told(code, self._size_out)
        connection.hold(self, 0)

    def refuse(self, error: Exception) -> None:
        """End the call with an error; one that nobody raised on purpose is reported, and not shown to the caller."""
        self.finish(*code_of(error))

    def turn_away(self, status: int) -> None:
        """Answer what is no call of gRPC with a status of HTTP."""
        if self._connection is not None:
            self._ending = heads.refusal(status)
            self._connection.hold(self, 0)

    def begun(self, who: WatchedCall) -> None:
        """Tell those who watch the server that a message has come."""
        if self._connection is not None:
            for begin in self._connection.server.beginnings:
                begin(who)

    def told(self, code: Code, size: int, who: WatchedCall | None = None) -> None:
        """Tell those who watch the server how a message was answered, and with how many bytes."""
        if self._connection is not None:
            for watcher in self._connection.server.watchers:
                watcher(who or self, code, size)

    def pump(self, room: int) -> int:
        """Send of what waits as much as there is room for; how many bytes that were."""
        connection = self._connection
        if connection is None:
            return 0
        size = max(0, min(room, self.window, len(self._unsent), connection.most_frame))
        if size:
            piece = bytes(self._unsent[:size])
            del self._unsent[:size]
            self.window -= size
            connection.write(frames.frame(DATA, 0, self.number, piece))
        if not self._unsent and self._ending is not None:
            connection.write(frames.frame(HEADERS, END_HEADERS | END_STREAM, self.number, self._ending))
            if not self.half_closed:
                connection.write(frames.reset(self.number, Trouble.NONE))
            self._gone()
        return size

    def expire(self, after_s: float) -> None:
        """End the call by itself after a time, whatever it waits for."""
        text = "the deadline passed before there was an answer"
        self._timer = asyncio.get_running_loop().call_later(after_s, self.finish, Code.DEADLINE_EXCEEDED, text)

    def lost(self) -> None:
        """The caller has gone."""
        self._gone()

    def _gone(self) -> None:
        connection, self._connection = self._connection, None
        if self._timer is not None:
            self._timer.cancel()
        if connection is not None:
            server = connection.server
            if self._buffer or self.inbox:
                server.unfinished_bytes -= len(self._buffer) + sum(map(len, self.inbox))
            self.conversation = None
            connection.ended(self)
