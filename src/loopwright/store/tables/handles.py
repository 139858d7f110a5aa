"""Opened versions of tables, kept: a version never changes, and opening one reads its whole log."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltalake import DeltaTable

_KEPT = 32


class Handles:
    """The last opened versions of local tables; thread-safe. They are only read.

    What is kept is bound to the log entry's own file, so a table that was deleted and made again is opened anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int, int], DeltaTable] = OrderedDict()

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


def _mark(table: Path, version: int) -> tuple[str, int, int, int] | None:
    try:
        found = (table / "_delta_log" / f"{version:020}.json").stat()
    except OSError:
        return None
    return str(table), version, found.st_ino, found.st_mtime_ns
