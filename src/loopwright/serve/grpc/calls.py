"""What every service over gRPC needs: whoever asks, requests to infer counted, waiting for models that are loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from loopwright.core import LoopwrightError, Unavailable
from loopwright.serve.codes import Code, code_of
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.grpc.call import Call, Conversation
from loopwright.serve.grpc.protos import read
from loopwright.serve.loading import Loading


class Caller(Protocol):
    """Who waits for the answer to one message: a call, or a place in a stream.

    Attributes:
        started_ns: when the message had arrived, on the monotonic clock.
        deadline_ns: until when the caller waits; 0 for ever.
        endpoint: who answers, for counts; a name of an endpoint that is there.
    """

    started_ns: int
    deadline_ns: int
    endpoint: str

    @property
    def is_open(self) -> bool:
        """Whether an answer is still wanted."""
        ...

    def answer(self, message: bytes, more: bytes = b"") -> None:
        """Answer with a message; `more` has fields for the trailers."""
        ...

    def finish(self, code: Code, text: str = "") -> None:
        """Answer with an error."""
        ...


Unary = Callable[[Call, bytes], None]
Converse = Callable[[Call], Conversation]
Handler = Callable[[Any, bytes], None]


def count(plane: DataPlane, caller: Caller) -> None:
    """Count a request to infer that is about to be answered well."""
    metrics, name = plane.metrics, caller.endpoint
    metrics.requests[name, 200] += 1
    metrics.latency[name].observe((time.monotonic_ns() - caller.started_ns) * 1e-9)


def refuse(plane: DataPlane, caller: Caller, error: Exception) -> None:
    """Answer with an error, and count it as the fronts over HTTP do: by the HTTP status of the same outcome."""
    code, text = code_of(error)
    status = error.http_status if isinstance(error, LoopwrightError) else 500
    plane.metrics.requests[caller.endpoint, status] += 1
    if isinstance(error, Unavailable) and 0 < caller.deadline_ns <= time.monotonic_ns():
        code = Code.DEADLINE_EXCEEDED
    caller.finish(code, text)


def handle(plane: DataPlane, handler: Handler, caller: Caller, message: bytes) -> None:
    """Have a message answered, after its model was loaded, where that is necessary."""
    if not caller.is_open:
        return
    try:
        handler(caller, message)
    except Loading as loading:
        loading.then(lambda: handle(plane, handler, caller, message), lambda error: refuse(plane, caller, error))
    except Exception as error:  # noqa: BLE001  (answered, and reported if it is a fault of ours)
        refuse(plane, caller, error)


def simple(kind: Any, behaviour: Callable[[Any], Any]) -> Unary:
    """A method that reads a request of some kind and answers it at once."""

    def handler(call: Call, data: bytes) -> None:
        call.answer(behaviour(read(kind, data)).SerializeToString())

    return handler


def awaited(plane: DataPlane, kind: Any, behaviour: Callable[[Any], Coroutine[Any, Any, Any]]) -> Unary:
    """A method that has to wait for something. The caller's deadline ends the wait."""
    tasks: set[asyncio.Task[None]] = set()

    def handler(call: Call, data: bytes) -> None:
        request = read(kind, data)

        async def run() -> None:
            try:
                call.answer((await behaviour(request)).SerializeToString())
            except Exception as error:  # noqa: BLE001  (answered, and reported if it is a fault of ours)
                refuse(plane, call, error)

        task = asyncio.get_running_loop().create_task(run(), name="loopwright-grpc")
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if call.deadline_ns:
            call.expire((call.deadline_ns - time.monotonic_ns()) * 1e-9)

    return handler
