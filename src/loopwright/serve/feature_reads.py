"""Features read for requests: on a thread of their own, all that waits in one turn, one read of the store per view.

The busier the process, the more requests share a read; a request that comes alone is read at once. What waits is
bounded in rows and in time, and a store that does not answer is left alone for a while (`Breaker`).
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.serve.breaker import Breaker
from loopwright.serve.metrics import Figure

if TYPE_CHECKING:
    import polars as pl

    from loopwright.features import LookupReader, Unknown
    from loopwright.store import OnlineStore

MOST_ROWS = 16_384
TURN_ROWS = 4_096
WAIT_S = 2.0
_SHOWN = 3
Columns = dict[str, list[Any]]


class _Asked:
    """One request's part: what it brings, and who waits for it."""

    __slots__ = ("columns", "future", "has_read", "moments", "project", "reader")

    def __init__(
        self,
        reader: LookupReader,
        project: str,
        columns: Mapping[str, Sequence[Any]],
        moments: Sequence[datetime],
        future: asyncio.Future[Columns],
    ) -> None:
        self.reader, self.project, self.columns, self.moments = reader, project, columns, moments
        self.future = future
        self.has_read = False  # whether the store has answered for it


class FeatureReads:
    """Reads the features of requests from the online store. Lives on one event loop."""

    def __init__(self, open_online: Callable[[], OnlineStore] | None, wait_s: float = WAIT_S) -> None:
        """Args:
        open_online: opens the store, on the thread and by the first read; None where there is none.
        wait_s: how long a request may wait for its features.
        """
        self._open_online, self._wait_s = open_online, wait_s
        self._online: OnlineStore | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loopwright-features")
        self._waiting: list[_Asked] = []
        self._rows, self._is_reading = 0, False
        self._breaker = Breaker("the online store")
        self.read_rows = self.turns = self.failures = self.unknown = 0

    async def read(
        self,
        reader: LookupReader,
        project: str,
        columns: Mapping[str, Sequence[Any]],
        moments: Sequence[datetime],
        deadline_ns: int = 0,
    ) -> Columns:
        """The columns that a lookup gives for what a request brings.

        Args:
            columns: values as JSON has them, by name.
            moments: when each row is asked.
            deadline_ns: until when the caller waits, on the monotonic clock; 0 for no longer than anybody may.

        Raises:
            Invalid: a column is missing, or a value does not fit.
            NotFound: nothing is known of an entity that is required; its key is named.
            Unavailable: the store does not answer, or too many rows wait.
        """
        self._admit(len(moments))
        wait_s = min(self._wait_s, _left_s(deadline_ns))
        self._breaker.enter()
        asked = _Asked(reader, project, columns, moments, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._rows += len(moments)
        self._start()
        try:
            found = await self._awaited(asked, wait_s)
        finally:
            self._rows -= len(moments)
        self._breaker.worked()
        self.read_rows += len(moments)
        return found

    def _admit(self, rows: int) -> None:
        """Refuse rows that cannot be read here, or not soon."""
        if self._open_online is None:
            raise Unavailable(
                "this process knows no online store, so it cannot look features up",
                next_step="send the model's inputs, or start it with --online URL",
            )
        if rows > MOST_ROWS:
            raise Invalid(
                f"features of {rows} rows are to be looked up", next_step=f"send {MOST_ROWS} at most at a time"
            )
        if self._rows + rows > MOST_ROWS:
            raise Unavailable(f"{self._rows} rows wait for features already", next_step="try again in a second")

    async def _awaited(self, asked: _Asked, wait_s: float) -> Columns:
        """What the thread has read; the breaker is told of what went wrong."""
        try:
            async with asyncio.timeout(wait_s):
                return await asked.future
        except TimeoutError:
            if wait_s < self._wait_s:  # the caller's patience says nothing of the store
                self._breaker.left()
                raise too_late() from None
            self._fail()
            raise Unavailable(
                f"the online store did not answer within {self._wait_s:g} s", next_step="try again in a second"
            ) from None
        except (Unavailable, asyncio.CancelledError):
            self._fail()
            raise
        except LoopwrightError:  # it is the request that is wrong
            if asked.has_read:
                self._breaker.worked()
            else:
                self._breaker.left()
            raise

    def figures(self) -> list[Figure]:
        """What Prometheus is told; nothing before the first read."""
        if not (self.turns or self.failures):
            return []
        return [
            ("feature_rows_read_total", "counter", "Rows whose features were looked up.", self.read_rows),
            ("feature_reads_total", "counter", "Turns in which features were looked up.", self.turns),
            ("feature_read_failures_total", "counter", "Requests that got no features.", self.failures),
            ("feature_rows_unknown_total", "counter", "Rows of entities that are required and unknown.", self.unknown),
            ("feature_rows_waiting", "gauge", "Rows that wait for features.", self._rows),
            ("online_store_up", "gauge", "Whether the online store is asked.", float(not self._breaker.is_open)),
        ]

    def close(self) -> None:
        """End the thread and let go of the store."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._online is not None and not self._is_reading:
            self._online.close()

    def _fail(self) -> None:
        self.failures += 1
        self._breaker.failed()

    def _start(self) -> None:
        """Read what waits, unless the thread is at it."""
        if self._is_reading:
            return
        self._is_reading = True
        loop = asyncio.get_running_loop()

        def run() -> None:
            while batch := self._next():
                self._answer(loop, batch)
            loop.call_soon_threadsafe(self._rest)

        self._pool.submit(run)

    def _rest(self) -> None:
        """The thread has found nothing more; something may have come since."""
        self._is_reading = False
        if self._waiting:
            self._start()

    def _next(self) -> list[_Asked]:
        """On the thread: what is read in one turn: all that waits, up to a number of rows."""
        batch: list[_Asked] = []
        rows = 0
        while self._waiting and (not batch or rows + len(self._waiting[0].moments) <= TURN_ROWS):
            asked = self._waiting.pop(0)
            if not asked.future.done():  # else its time was up, or its caller is gone
                batch.append(asked)
                rows += len(asked.moments)
        return batch

    def _answer(self, loop: asyncio.AbstractEventLoop, batch: list[_Asked]) -> None:
        """On the thread."""
        self.turns += 1
        by_reader: dict[tuple[int, str], list[_Asked]] = {}
        for asked in batch:
            by_reader.setdefault((id(asked.reader), asked.project), []).append(asked)
        for some in by_reader.values():
            outcomes = self._together(some)
            loop.call_soon_threadsafe(_settle, list(zip(some, outcomes, strict=True)))

    def _together(self, some: list[_Asked]) -> list[Columns | LoopwrightError]:
        """What requests with one lookup get, read at once."""
        outcomes: dict[int, Columns | LoopwrightError] = {}
        frames: list[tuple[int, pl.DataFrame]] = []
        for place, asked in enumerate(some):
            try:
                frames.append((place, asked.reader.typed(asked.columns, asked.moments)))
            except Exception as error:  # noqa: BLE001  (told to who asked; the others go on)
                outcomes[place] = _told(error)
        try:
            for place, found in self._read(some, frames):
                outcomes[place] = found
        except Exception as error:  # noqa: BLE001  (told to those who asked)
            told = _told(error)
            if len(frames) > 1 and isinstance(told, Invalid):  # whose values it were shows when each is read alone
                for place, _ in frames:
                    [outcomes[place]] = self._together([some[place]])
            else:
                outcomes.update(dict.fromkeys([place for place, _ in frames], told))
        return [outcomes[place] for place in range(len(some))]

    def _read(
        self, some: list[_Asked], frames: list[tuple[int, pl.DataFrame]]
    ) -> list[tuple[int, Columns | LoopwrightError]]:
        if not frames:
            return []
        import polars as pl

        if self._online is None:
            assert self._open_online is not None, "read() has refused where there is no store"
            self._online = self._open_online()
        reader, project = some[0].reader, some[0].project
        moments = [moment for place, _ in frames for moment in some[place].moments]
        whole = pl.concat([frame for _, frame in frames])
        rows, unknown = reader.read(self._online, whole, moments, project)
        for place, _ in frames:
            some[place].has_read = True
        found: list[tuple[int, Columns | LoopwrightError]] = []
        start = 0
        for place, frame in frames:
            end = start + frame.height
            mine = [one for one in unknown if start <= one.row < end]
            self.unknown += len(mine)
            given = rows[start:end].to_dict(as_series=False)
            found.append((place, _not_known(mine, frame, start) if mine else given))
            start = end
        return found


def _left_s(deadline_ns: int) -> float:
    """How long it is to a deadline, in seconds; for ever where there is none."""
    return (deadline_ns - time.monotonic_ns()) * 1e-9 if deadline_ns else math.inf


def too_late() -> Unavailable:
    """What is told to a caller whose time is up."""
    return Unavailable("the deadline passed before the features were read", next_step="allow more time, or send less")


def _settle(outcomes: list[tuple[_Asked, Columns | LoopwrightError]]) -> None:
    """On the event loop."""
    for asked, outcome in outcomes:
        if asked.future.done():
            continue
        if isinstance(outcome, LoopwrightError):
            asked.future.set_exception(outcome)
        else:
            asked.future.set_result(outcome)


def _not_known(unknown: list[Unknown], frame: pl.DataFrame, start: int) -> NotFound:
    """An error that names the keys of the first few entities that are required and unknown."""
    shown = []
    for one in unknown[:_SHOWN]:
        row = frame.row(one.row - start, named=True)
        keys = ", ".join(f"{key}={row[key]!r}" for key in one.keys)
        shown.append(f"{one.view} of {keys} (row {one.row - start})")
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return NotFound(
        f"nothing fresh is known of {'; '.join(shown)}{more}",
        next_step="check the key; is the feature view materialised?",
    )


def _told(error: Exception) -> LoopwrightError:
    if isinstance(error, LoopwrightError):
        return error
    traceback.print_exception(error, file=sys.stderr)
    return LoopwrightError("the features could not be read")
