"""ModelStreamInfer: a response for each request, in their order; an error is told within the stream, which goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from loopwright.serve.codes import Code
from loopwright.serve.grpc.call import Call
from loopwright.serve.grpc.plans import wrapped
from loopwright.serve.grpc.protos import messages, read

_UNDER_WAY = 64
_UNSENT_BYTES = 1 << 20


class Place:
    """The place of one request's response in its stream: a caller."""

    __slots__ = ("_id", "_stream", "deadline_ns", "endpoint", "response", "size", "started_ns")

    def __init__(self, stream: Stream, data: bytes) -> None:
        self._stream, self.size = stream, len(data)
        self.started_ns, self.deadline_ns = stream.call.started_ns, 0
        self.endpoint = ""
        self.response: bytes | None = None
        self._id = data if self.size < _UNSENT_BYTES else b""  # read only where there is an error to tell

    @property
    def is_open(self) -> bool:
        """Whether an answer is still wanted."""
        return self._stream.call.is_open and self.response is None

    @property
    def path(self) -> bytes:
        """That of the call."""
        return self._stream.call.path

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Those of the call."""
        return self._stream.call.headers

    @property
    def peer(self) -> str:
        """The address of the caller."""
        return self._stream.call.peer

    def answer(self, message: bytes, _more: bytes = b"") -> None:
        """Answer with a response."""
        self._answered(wrapped(message), Code.OK)

    def finish(self, code: Code, text: str = "") -> None:
        """Answer with an error."""
        kinds = messages("inference.proto")
        try:
            identifier = read(kinds["ModelInferRequest"], self._id).id
        except Exception:  # noqa: BLE001  (a request that cannot be read has no id)
            identifier = ""
        response = kinds["ModelInferResponse"](id=identifier)
        told = kinds["ModelStreamInferResponse"](error_message=text, infer_response=response)
        self._answered(told.SerializeToString(), code)

    def _answered(self, response: bytes, code: Code) -> None:
        if self.is_open:
            self.response = response
            self._id = b""
            self._stream.call.told(code, len(response), self)
            self._stream.flush()


class Stream:
    """The conversation of one call."""

    def __init__(self, call: Call, handle: Callable[[Place, bytes], None]) -> None:
        """Args:
        handle: has a request answered.
        """
        self.call, self._handle = call, handle
        self._places: deque[Place] = deque()
        self._taking = self._draining = False

    def offered(self) -> None:
        """Take requests, unless too many are under way, or the caller does not take its answers."""
        if self._taking:
            return
        self._taking, call = True, self.call
        while call.inbox and call.is_open and len(self._places) < _UNDER_WAY and call.unsent < _UNSENT_BYTES:
            data = call.take()
            place = Place(self, data)
            call.begun(place)
            self._places.append(place)
            self._handle(place, data)
        self._taking = False
        self._end_if_done()

    def flush(self) -> None:
        """Send the responses at the head of the line."""
        while self._places and self._places[0].response is not None:
            self.call.send(self._places.popleft().response or b"")
        if self.call.inbox:
            self.offered()
        else:
            self._end_if_done()

    def drain(self) -> None:
        """End when nothing is under way."""
        self._draining = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._places or self.call.inbox or self._taking:
            return
        if self.call.half_closed and self.call.is_torn:
            self.call.finish(Code.INVALID_ARGUMENT, "the last message is not whole")
        elif self.call.half_closed:
            self.call.finish(Code.OK)
        elif self._draining:
            self.call.finish(Code.UNAVAILABLE, "the server ends")
