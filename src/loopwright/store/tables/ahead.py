"""A source read a little ahead, on a thread of its own."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_DEPTH = 2
_POLL_S = 0.1
_END = object()


class Ahead(Generic[T]):
    """At most `_DEPTH` items wait. The thread starts with the first item asked for, and ends with the source, with
    its error, or with `close`. An error of the source is raised where the items are taken."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._queue: queue.Queue[object] = queue.Queue(_DEPTH)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._fill,), name="table-source", daemon=True)

    def items(self) -> Iterator[T]:
        """The items, once."""
        self._thread.start()
        while (item := self._take()) is not _END:
            yield item  # type: ignore[misc]  # what is not the end mark is a T
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop reading; returns when the source is no longer used."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _take(self) -> object:
        while not self._stopped.is_set():
            try:
                return self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        return _END

    def _fill(self) -> None:
        try:
            for item in self._source:
                if not self._offer(item):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again where the items are taken)
            self._error = error
        self._offer(_END)

    def _offer(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
