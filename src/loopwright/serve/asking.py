"""Asking the data plane from a coroutine."""

from __future__ import annotations

import asyncio
from typing import Any

from loopwright.core import LoopwrightError
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Query


async def ask(
    plane: DataPlane, endpoint: LoadedEndpoint, rows: Rows, started_ns: int, deadline_ns: int = 0, **given: Any
) -> Answer:
    """Ask the data plane, and wait for the answer.

    Args:
        given: keys, event_times and version, as a Query takes them.

    Raises:
        LoopwrightError: why there is no answer.
    """
    future: asyncio.Future[Answer | LoopwrightError] = asyncio.get_running_loop().create_future()

    def reply(answer: Answer | LoopwrightError) -> None:
        if not future.done():  # the caller may have gone
            future.set_result(answer)

    name = endpoint.spec.name
    query = Query(name, rows, reply, started_ns=started_ns, deadline_ns=deadline_ns, **given)
    plane.submit(query, endpoint)
    answer = await future
    if isinstance(answer, LoopwrightError):
        raise answer
    return answer
