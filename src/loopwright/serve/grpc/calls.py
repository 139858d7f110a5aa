"""What every service over gRPC needs: a call counted, models waited for, an error told by its code."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from loopwright.core import LoopwrightError
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.loading import Loading

Behaviour = Callable[[Any, Any], Awaitable[Any]]
_CODES = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthorized": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "conflict": grpc.StatusCode.FAILED_PRECONDITION,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "corrupt": grpc.StatusCode.DATA_LOSS,
}


def count(plane: DataPlane, name: str, status: int, started_ns: int) -> None:
    """Count a request to infer, under the HTTP status of the same outcome."""
    metrics = plane.metrics
    metrics.requests[name, status] += 1
    if status == 200:
        metrics.latency[name].observe((time.monotonic_ns() - started_ns) * 1e-9)


def told(behaviour: Behaviour) -> Behaviour:
    """The behaviour, with each error told to the caller by its code; one that is a fault of ours is reported here."""

    async def answered(request: Any, context: Any) -> Any:
        try:
            return await when_loaded(lambda: behaviour(request, context))
        except Exception as error:  # noqa: BLE001  (answered by its code)
            code, text = code_of(error)
            await context.abort(code, text)

    return answered


async def endpoint_of(plane: DataPlane, name: str) -> LoadedEndpoint:
    """The endpoint of that name, after its models were loaded, where that is necessary. Raises as the plane does."""

    async def find() -> LoadedEndpoint:
        return plane.endpoint(name)

    found: LoadedEndpoint = await when_loaded(find)
    return found


async def when_loaded(work: Callable[[], Awaitable[Any]]) -> Any:
    """What some work gives, after the model that it asks for was loaded, where that is necessary."""
    while True:
        try:
            return await work()
        except Loading as loading:
            await loading.wait()


def code_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """An error's code and text; one that nobody raised on purpose is reported in full, and not shown to the caller."""
    if isinstance(error, LoopwrightError):
        return _CODES.get(error.code, grpc.StatusCode.INTERNAL), str(error)
    traceback.print_exception(error, file=sys.stderr)
    return grpc.StatusCode.INTERNAL, "the server failed on this request"


def deadline_of(context: Any, started_ns: int) -> int:
    """When the caller stops waiting, on the monotonic clock in nanoseconds; 0 if it waits for ever."""
    remaining_s = context.time_remaining()
    return 0 if remaining_s is None or remaining_s > 1e6 else started_ns + int(remaining_s * 1e9)
