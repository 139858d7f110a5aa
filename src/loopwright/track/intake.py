"""Group commit: what many callers submit at the same moment is stored in one transaction."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TypeAlias, cast

import msgspec

from loopwright.core import LoopwrightError, Unavailable
from loopwright.store import Stores, refuse_nul
from loopwright.track.batches import Batch, check_texts, write_batches
from loopwright.track.columns import Columns, Mixed, columns_of
from loopwright.track.metrics import Points, prepare, prepare_timed
from loopwright.track.model import MetricPoint, TimedPoint
from loopwright.track.quick import QuickWriter
from loopwright.track.singles import store_singles
from loopwright.track.values import check_key, to_micros

MAX_WAITING_POINTS = 1_000_000
MAX_GROUP = 1_024
MAX_GROUP_POINTS = 100_000
SYNC_EVERY_S = 1.0
GATHER_S = 0.0005
MAX_EXPECTED = 64
MAX_AT_ONCE = 1_100
"""So many points, an item counting for one more: MLflow's largest `log_batch`."""
THREAD_NAME = "loopwright-metric-intake"
Given: TypeAlias = Sequence[MetricPoint] | Sequence[TimedPoint] | Mapping[str, Columns] | Mixed


class _Item(msgspec.Struct, frozen=True, eq=False):
    batch: Batch
    size: int
    future: Future[None]


class MetricIntake:
    """Takes points, params and tags of any run and stores them in groups. Thread-safe.

    A future is done when its item is durable, or has the error for which nothing of it was stored. One thread,
    started by the first item, stores everything that waits in one transaction; while it does, the next group gathers.
    One group a second waits for the disk: kill -9 takes nothing that was acknowledged; a power cut, of the database's
    machine where that is PostgreSQL, may take the end of a burst.
    What waits is bounded: beyond it, `submit` waits, and after `patience_s` fails. Belongs to the process that made
    it, as its stores do: in a child after fork, `submit` fails at once and `close` does nothing.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        max_waiting_points: int = MAX_WAITING_POINTS,
        patience_s: float = 30.0,
        sync_every_s: float = SYNC_EVERY_S,
    ) -> None:
        """Args:
        max_waiting_points: what may wait, an item counting for one more than its points.
        patience_s: how long `submit` waits for room.
        sync_every_s: how often a group waits for the database's disk; with 0 each does.
        """
        self._stores, self._max_waiting, self._patience_s = stores, max_waiting_points, patience_s
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[_Item] = deque()
        self._waiting_size = 0
        self._closing = False
        self._sync_every_s, self._synced_at = sync_every_s, -sync_every_s
        self._expected = 0
        self._quick: QuickWriter | None = None
        self._thread: threading.Thread | None = None

    def submit(
        self,
        project: str,
        run_id: str,
        points: Given = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Future[None]:
        """Store points, params and tags of a run: all of them or, on an error, none.

        The future fails with NotFound (no such run), Conflict (the run is deleted, or a param has another value
        already), Invalid (something cannot be stored) or Unavailable (the database does not take it; the intake is
        closed or full).
        """
        try:
            return self.hand_in(self.batch(project, run_id, points, params or {}, tags or {}))
        except LoopwrightError as error:
            future: Future[None] = Future()
            future.set_exception(error)
            return future

    def hand_in(self, batch: Batch) -> Future[None]:
        """`submit` of what was checked by `batch`."""
        future: Future[None] = Future()
        try:
            self._put(_Item(batch, batch.size, future))
        except LoopwrightError as error:
            future.set_exception(error)
        return future

    def store_at_once(self, batches: Sequence[Batch]) -> list[LoopwrightError | None] | None:
        """Store what was checked by `batch`, on the calling thread and without waiting for anything; the answer of
        each. For callers that are woken in turns, and whose next turn gathers what comes meanwhile.

        None, and nothing is done, where that cannot be: on PostgreSQL; while somebody else writes; when it is time to
        wait for the disk; where it is much; where it fails, so that `hand_in` has to tell for which.
        """
        if self._stores.db.dialect != "sqlite" or sum(batch.size for batch in batches) > MAX_AT_ONCE:
            return None
        if self._waiting or self._closing or self._is_sync_due() or os.getpid() != self._process:
            return None
        try:
            if store_singles(self._stores.db, batches):
                return [None] * len(batches)
            with self._stores.db.begin_at_once() as tx:
                return None if tx is None else write_batches(self._stores.db, tx, batches)
        except Exception:  # noqa: BLE001 - nothing was stored, and the thread, which tries again, tells why
            return None

    def quick(self) -> QuickWriter | None:
        """What stores small groups on PostgreSQL without a thread, once there is a connection for it: the thread makes
        that when it has stored something after this was first asked for. None on SQLite."""
        if self._quick is None and self._stores.db.dialect != "sqlite":
            self._quick = QuickWriter(self._stores.db, sync_every_s=self._sync_every_s)
        return self._quick

    def close(self) -> None:
        """Store what was submitted and end the thread; later items are refused. A second close does nothing."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._quick is not None:
            self._quick.close()

    def batch(
        self, project: str, run_id: str, points: Given, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> Batch:
        """What is to be stored with a run, checked.

        Raises:
            Invalid: something cannot be stored.
        """
        refuse_nul(run_id)
        check_texts(params, tags)
        prepared: Mapping[str, Points] | Mixed
        if isinstance(points, Mapping):
            prepared = {
                check_key("metric", key): columns_of(some.steps, some.times_us, some.values, key)
                for key, some in points.items()
            }
        elif isinstance(points, Mixed):
            prepared = points
        elif points and isinstance(points[0], TimedPoint):
            prepared = prepare_timed(cast(Sequence[TimedPoint], points))
        else:
            prepared = prepare(cast(Sequence[MetricPoint], points), to_micros(self._stores.clock.now()))
        return Batch(project, run_id, prepared, params, tags, 1 + len(points))

    def _is_sync_due(self) -> bool:
        return time.monotonic() >= self._synced_at + self._sync_every_s

    def _put(self, item: _Item) -> None:
        if os.getpid() != self._process:
            raise Unavailable(
                f"this intake belongs to process {self._process}", next_step="open the workspace anew in the child"
            )
        with self._changed:
            if not self._changed.wait_for(lambda: self._closing or self._has_room(item), self._patience_s):
                raise Unavailable(
                    f"{self._waiting_size:,} points have waited to be stored for {self._patience_s:g} s",
                    next_step="try again",
                )
            if self._closing:
                raise Unavailable("the intake of metrics is closed", next_step="open the workspace again")
            self._waiting.append(item)
            self._waiting_size += item.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _has_room(self, item: _Item) -> bool:
        return not self._waiting or self._waiting_size + item.size <= self._max_waiting

    def _work(self) -> None:
        while group := self._next_group():
            self._store(group)

    def _next_group(self) -> list[_Item]:
        """What waits, up to a bound; empty when the intake is closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            # Those whose items were stored a moment ago are about to submit again: one disk write serves all of them.
            self._changed.wait_for(lambda: self._closing or len(self._waiting) >= self._expected, GATHER_S)
            group: list[_Item] = []
            size = 0
            while self._waiting and len(group) < MAX_GROUP and (not group or size < MAX_GROUP_POINTS):
                group.append(self._waiting.popleft())
                size += group[-1].size
            self._waiting_size -= size
            self._expected = min(len(group) + len(self._waiting), MAX_EXPECTED)
            self._changed.notify_all()
            return group

    def _store(self, group: Sequence[_Item]) -> None:
        now, relaxed = time.monotonic(), not self._is_sync_due()
        try:
            with self._stores.db.begin(relaxed=relaxed) as tx:
                outcome = write_batches(self._stores.db, tx, [item.batch for item in group])
        except Exception as error:  # noqa: BLE001 - the callers get it, and the thread goes on for others
            self._failed(group, error)
            return
        self._synced_at = self._synced_at if relaxed else now
        for item, refused in zip(group, outcome, strict=True):
            _settle(item.future, refused)
        if self._quick is not None and not self._quick.is_open and not self._closing:
            self._quick.open()

    def _failed(self, group: Sequence[_Item], error: Exception) -> None:
        """One item may have spoiled the transaction of all: each then gets its own, unless the database is away."""
        if len(group) == 1 or isinstance(error, Unavailable):
            for item in group:
                _settle(item.future, error)
            return
        for item in group:
            self._store([item])


def _settle(future: Future[None], error: BaseException | None) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
