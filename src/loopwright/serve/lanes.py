"""Lanes: threads of their own for models that block and for very large requests, so that nobody else waits for them."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable

from loopwright.serve.admission import Pace, Patience
from loopwright.serve.loaded import LoadedVariant
from loopwright.serve.parts import form_of
from loopwright.serve.query import Part

_CLOSE_S = 5.0
_HAND_OVER_S = 0.02  # a thread has the interpreter 5 ms after it asks a busy event loop for it, twice for each run


class Lane:
    """A queue of parts and the thread that answers them. Its owner bounds the queue by `rows`.

    A model that hangs keeps its own lane only: what waits behind it is answered by its deadline, not by the model.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[LoadedVariant, list[Part]], None],
        settle: Callable[[list[Part]], None],
        most_rows: int,
        batch_rows: int,
    ) -> None:
        """Args:
        name: of the thread.
        answer: is called on the thread, with parts of one variant; must not raise.
        settle: is called on the event loop when they are answered.
        most_rows: how many rows may wait.
        batch_rows: how many are answered at once.
        """
        self.most_rows = most_rows
        self.rows = self.requests = 0  # that wait or are being answered; the event loop's
        self._pace = Pace(_HAND_OVER_S)
        self._name, self._answer, self._settle, self._batch_rows = name, answer, settle, batch_rows
        self._parts: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._kept: Part | None = None  # taken from the queue, but of another batch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def offer(self, part: Part) -> None:
        """On the event loop: have a part answered."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name=f"loopwright-{self._name}", daemon=True)
            self._thread.start()
        self.rows += part.load
        self.requests += 1
        self._parts.put(part)

    def is_full(self, patience: Patience, now_ns: int) -> bool:
        """On the event loop: whether a further part would wait for too long."""
        is_full = self._pace.is_full(patience, self.rows, self.requests, now_ns)
        if is_full:
            self._pace.refused(now_ns)
        return is_full

    def close(self) -> None:
        """End the thread behind what waits. One that hangs is left to the end of the process."""
        self._parts.put(None)

    def join(self) -> None:
        """Wait a few seconds for the thread to end."""
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while (first := self._next()) is not None:
            batch, dropped = self._batch(first)
            began_s = time.monotonic()
            if batch:
                self._answer(batch[0].loaded, batch)
            assert self._loop is not None, "a lane's thread starts on an event loop"
            self._loop.call_soon_threadsafe(self._done, batch, dropped, time.monotonic() - began_s)

    def _next(self) -> Part | None:
        kept, self._kept = self._kept, None
        return kept if kept is not None else self._parts.get()

    def _batch(self, first: Part) -> tuple[list[Part], list[Part]]:
        """What is answered together with a part: all that waits behind it, is like it, and fits; and what is dropped,
        because its time was up while it waited."""
        batch: list[Part] = []
        dropped: list[Part] = []
        size = 0
        part: Part | None = first
        while part is not None:
            if not part.query.waiting:
                dropped.append(part)
            elif batch and not self._fits(part, batch[0], size):
                self._kept = part
                break
            else:
                batch.append(part)
                size += part.load
            try:
                part = self._parts.get_nowait()
            except queue.Empty:
                break
            if part is None:
                self.close()  # again, for the next look
        return batch, dropped

    def _fits(self, part: Part, first: Part, size: int) -> bool:
        return part.loaded is first.loaded and form_of(part) is form_of(first) and size + part.load <= self._batch_rows

    def _done(self, batch: list[Part], dropped: list[Part], took_s: float) -> None:
        answered = sum(part.load for part in batch)
        if answered:
            self._pace.answered(answered, len(batch), took_s, took_s)
        self.rows -= answered + sum(part.load for part in dropped)
        self.requests -= len(batch) + len(dropped)
        self._settle(batch)
