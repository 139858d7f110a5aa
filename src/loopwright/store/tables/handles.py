"""Opened tables, kept: opening one reads its whole log, which for a small append is most of the work."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltalake import DeltaTable

_KEPT = 32


class Handles:
    """The last opened local tables; thread-safe.

    Any number of readers share the handle of a version, which never changes. The handle of a table that is written
    moves on with each write: a writer takes it and gives it back. Both are bound to a log entry's own file, so a table
    that was deleted and made again is opened anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int, int], DeltaTable] = OrderedDict()
        self._written: OrderedDict[Path, tuple[tuple[str, int, int, int], DeltaTable]] = OrderedDict()

    def get(self, table: Path, version: int) -> DeltaTable | None:
        """The handle of a version, if it is kept and still the same."""
        mark = _mark(table, version)
        with self._lock:
            if mark is None or mark not in self._kept:
                return None
            self._kept.move_to_end(mark)
            return self._kept[mark]

    def put(self, table: Path, version: int, handle: DeltaTable) -> None:
        """Keep the handle of a version."""
        mark = _mark(table, version)
        if mark is None:
            return
        with self._lock:
            self._kept[mark] = handle
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def take(self, table: Path) -> DeltaTable | None:
        """The handle of a table for its next write, brought up to date; nobody else has it meanwhile."""
        from deltalake.exceptions import DeltaError

        with self._lock:
            mark, handle = self._written.pop(table, (None, None))
        if handle is None or mark != _mark(table, handle.version()):
            return None
        try:
            handle.update_incremental()
        except (DeltaError, OSError):
            return None  # opened anew, it will say what is wrong
        return handle

    def give(self, table: Path, handle: DeltaTable) -> None:
        """Keep the handle of a table that was written."""
        mark = _mark(table, handle.version())
        if mark is None:
            return
        with self._lock:
            self._written[table] = (mark, handle)
            while len(self._written) > _KEPT:
                self._written.popitem(last=False)


def _mark(table: Path, version: int) -> tuple[str, int, int, int] | None:
    try:
        found = (table / "_delta_log" / f"{version:020}.json").stat()
    except OSError:
        return None
    return str(table), version, found.st_ino, found.st_mtime_ns
