"""What requests log within one turn of the event loop, stored together at its end; what comes alone, at once.

Where nothing has to be waited for (see `MetricIntake.store_at_once`), that is done on the event loop itself: to wake a
thread and to be woken by it takes as long as a small transaction. Whatever has to wait, or is large, is left to the
intake's thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeAlias

from loopwright.core import LoopwrightError
from loopwright.server.route import Done
from loopwright.track import Batch, Mixed, QuickWriter, TimedPoint

log = logging.getLogger("loopwright.server")
_Waiting: TypeAlias = tuple[Batch, Done]
_MOST_WAITING = 1_024
_ALONE_S = 0.0003
"""Nothing was stored for so long: whoever comes now comes alone, and need not wait for others of this turn."""


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

    def quick(self) -> QuickWriter | None:
        """What stores small groups while the event loop does other things, where there is such a thing."""
        ...

    def hand_in(self, batch: Batch) -> Future[None]:
        """A promise that is kept when all of it is durable, or says why none of it was stored."""
        ...


class Turns:
    """Gathers batches; used on one event loop only."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self._waiting: list[_Waiting] = []
        self._sent: list[_Waiting] = []
        self._stored_at = 0.0
        self._watched: int | None = None
        """The socket of the quick way, while the event loop watches it."""

    def put(self, batch: Batch, done: Done) -> None:
        """Store a batch; `done` is told, perhaps at once."""
        self._waiting.append((batch, done))
        if self._sent:  # whose answer stores the next group
            if len(self._waiting) >= _MOST_WAITING:
                self._hand_in(self._take())
        elif len(self._waiting) == 1:
            if time.monotonic() > self._stored_at + _ALONE_S:
                self._store()
            else:
                asyncio.get_running_loop().call_soon(self._store)

    async def store(self, batch: Batch) -> None:
        """Store a batch.

        Raises:
            LoopwrightError: it is refused; nothing of it was stored.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.put(batch, partial(_settle, future))
        await future

    def _store(self) -> None:
        if self._sent or not self._waiting:
            return
        waiting = self._take()
        outcome = self.intake.store_at_once([batch for batch, _ in waiting])
        self._stored_at = time.monotonic()
        if outcome is None:
            self._hand_in(self._send(waiting))
            return
        for (_, done), refused in zip(waiting, outcome, strict=True):
            _say(done, refused)

    def _send(self, waiting: list[_Waiting]) -> list[_Waiting]:
        """Begin to store what can be stored by the quick way; the rest."""
        quick = self.intake.quick()
        if quick is None or not quick.is_open:
            return waiting
        groups = [quick.group_of(batch) for batch, _ in waiting]
        chosen = next(filter(None, groups), "")
        small = [item for item, group in zip(waiting, groups, strict=True) if group == chosen]
        if not chosen or not self._is_begun(quick, small):
            return waiting
        self._sent = small
        return [item for item, group in zip(waiting, groups, strict=True) if group != chosen]

    def _is_begun(self, quick: QuickWriter, small: list[_Waiting]) -> bool:
        begun = quick.begin([batch for batch, _ in small])
        if quick.is_lost:
            self._part(quick)
        elif begun:
            if self._watched is None:  # and from now on: to begin and end it each time takes nine system calls
                self._watched = quick.fileno()
                asyncio.get_running_loop().add_reader(self._watched, self._receive, quick)
            if not quick.is_sent():
                asyncio.get_running_loop().add_writer(self._watched, self._push, quick)
        return begun

    def _push(self, quick: QuickWriter) -> None:
        if quick.is_sent():
            asyncio.get_running_loop().remove_writer(quick.fileno())

    def _receive(self, quick: QuickWriter) -> None:
        if not self._sent:
            quick.listen()
            if quick.is_lost:
                self._part(quick)
            return
        stored = quick.outcome()
        if quick.is_lost:
            self._part(quick)
        if stored is None:
            return
        sent, self._sent = self._sent, []
        if stored:
            for _, done in sent:
                _say(done, None)
        else:
            self._hand_in(sent)
        self._store()

    def _part(self, quick: QuickWriter) -> None:
        """Let go of a connection that is lost: first the event loop, which must not watch a socket that is closed."""
        loop, watched, self._watched = asyncio.get_running_loop(), self._watched, None
        if watched is not None:
            loop.remove_reader(watched)
            loop.remove_writer(watched)
        quick.close()

    def _hand_in(self, waiting: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        for batch, done in waiting:
            self.intake.hand_in(batch).add_done_callback(partial(_tell, loop, done))

    def _take(self) -> list[_Waiting]:
        waiting, self._waiting = self._waiting, []
        return waiting


def _say(done: Done, error: BaseException | None) -> None:
    """Tell one of many; what goes wrong there is not to keep the others waiting."""
    try:
        done(error)
    except Exception:
        log.exception("a reply could not be given")


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
