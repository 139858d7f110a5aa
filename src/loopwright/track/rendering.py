"""What was made of runs' records, such as their JSON in a protocol, kept ready for the next page that shows them.

A text is found again only under the revision that the run has in the snapshot that asks (`loopwright.track.revisions`),
so a change is seen at once, whichever process made it. What nobody asked for longest goes first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from loopwright.store import Database
from loopwright.track.contents import load_whole_runs
from loopwright.track.model import WholeRun
from loopwright.track.search.query import Found, load_rows

Render: TypeAlias = Callable[[WholeRun], bytes]
_OVERHEAD = 400
"""About the bytes that an entry takes beside its text on CPython 3.11."""


class _Kept(NamedTuple):
    revision: int
    experiment: str
    text: bytes


class Renderings:
    """Texts of runs, in at most so many bytes. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """About what the texts take."""
        return self._size

    def find(self, kind: str, found: Sequence[Found]) -> list[bytes | None]:
        """The text of each run that is kept as it stands now."""
        texts: list[bytes | None] = []
        kept = self._kept
        with self._lock:
            for run in found:
                held = kept.get(key := (kind, run.seq))
                if held is None or held[0] != run.revision or held[1] != run.experiment:
                    texts.append(None)
                else:
                    kept.move_to_end(key)
                    texts.append(held[2])
        return texts

    def keep(self, kind: str, run: Found, text: bytes) -> None:
        """Keep the text of a run as it was found, unless it is so large that it would push out too much."""
        size = len(text) + _OVERHEAD
        if size > self._limit // 8:
            return
        with self._lock:
            before = self._kept.pop((kind, run.seq), None)
            if before is not None:
                self._size -= len(before.text) + _OVERHEAD
            self._kept[kind, run.seq] = _Kept(run.revision, run.experiment, text)
            self._size += size
            while self._size > self._limit:
                _, gone = self._kept.popitem(last=False)
                self._size -= len(gone.text) + _OVERHEAD


_of: WeakKeyDictionary[Database, Renderings] = WeakKeyDictionary()
_making = threading.Lock()


def renderings_of(database: Database, limit_bytes: int) -> Renderings:
    """Those of a database in this process; the first who asks says how much they may take."""
    with _making:
        found = _of.get(database)
        if found is None:
            found = _of[database] = Renderings(limit_bytes)
        return found


def rendered(
    kept: Renderings, connection: Connection, kind: str, found: Sequence[Found], render: Render
) -> list[bytes]:
    """The texts of runs, in their order; what is not kept as it stands in this snapshot is read and made.

    Args:
        connection: the snapshot in which the runs were found. It must not have written anything.
        kind: whose words these are: one `render` for each.
    """
    texts = kept.find(kind, found)
    missing = [place for place, text in enumerate(texts) if text is None]
    if missing:
        wholes = load_whole_runs(connection, load_rows(connection, [found[place] for place in missing]))
        for place, whole in zip(missing, wholes, strict=True):
            texts[place] = text = render(whole)
            kept.keep(kind, found[place], text)
    return [text for text in texts if text is not None]
