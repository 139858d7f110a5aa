"""What requests log within one turn of the event loop, stored together at its end.

Where nothing has to be waited for (see `MetricIntake.store_at_once`), that is done on the event loop itself: to wake a
thread and to be woken by it takes as long as a small transaction. Whatever has to wait, or is large, is left to the
intake's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from loopwright.core import LoopwrightError
from loopwright.server.route import Done
from loopwright.track import Batch, Mixed, TimedPoint


class Intake(Protocol):
    """Where points, params and tags of runs are handed in. Thread-safe."""

    def batch(
        self,
        project: str,
        run_id: str,
        points: Sequence[TimedPoint] | Mixed,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> Batch:
        """What is to be stored with a run, checked.

        Raises:
            Invalid: something cannot be stored.
        """
        ...

    def store_at_once(self, batches: Sequence[Batch]) -> list[LoopwrightError | None] | None:
        """Store batches without waiting for anything: for each whether it is durable, or why none of it was stored.
        None where that cannot be, and nothing was done."""
        ...

    def hand_in(self, batch: Batch) -> Future[None]:
        """A promise that is kept when all of it is durable, or says why none of it was stored."""
        ...


class Turns:
    """Gathers batches; used on one event loop only."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self._waiting: list[tuple[Batch, Done]] = []

    def put(self, batch: Batch, done: Done) -> None:
        """Store a batch; `done` is told later."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._store)
        self._waiting.append((batch, done))

    async def store(self, batch: Batch) -> None:
        """Store a batch.

        Raises:
            LoopwrightError: it is refused; nothing of it was stored.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.put(batch, partial(_settle, future))
        await future

    def _store(self) -> None:
        waiting, self._waiting = self._waiting, []
        outcome = self.intake.store_at_once([batch for batch, _ in waiting])
        if outcome is None:
            loop = asyncio.get_running_loop()
            for batch, done in waiting:
                self.intake.hand_in(batch).add_done_callback(partial(_tell, loop, done))
            return
        for (_, done), refused in zip(waiting, outcome, strict=True):
            done(refused)


def _tell(loop: asyncio.AbstractEventLoop, done: Done, stored: Future[None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(done, stored.exception())


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():  # whoever asked has gone
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
