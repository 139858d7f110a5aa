"""An endpoint of the protocol, and how it asks our services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from loopwright.server.protocols.mlflow import wire
from loopwright.server.route import Call

T = TypeVar("T")
Answer = Callable[[Call, Any], Awaitable[object]]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of the protocol.

    Args:
        method: the HTTP method.
        path: the whole path, such as `/api/2.0/mlflow/runs/create`.
        permission: `room:read`, `room:write` or `public`.
        request: what is decoded: from the query of a GET, else from the body.
        answer: gives the reply's record, None for an empty object, or a finished response.
    """

    method: str
    path: str
    permission: str
    request: type[wire.Request]
    answer: Answer


async def in_room(call: Call, room: str, work: Callable[[Any], T]) -> T:
    """Work with the service of a room, in a thread; the route's permission was judged already."""
    found: T = await call.services.in_thread(lambda: work(call.services.service(room, call.scope)))
    return found
