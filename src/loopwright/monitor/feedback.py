"""Feedback on its way in: on the disk before it is acknowledged, read by the same kind of cursor as predictions."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, finalize

import msgspec

from loopwright.core import Corrupt
from loopwright.monitor.model import Feedback
from loopwright.monitor.places import feedback_folder
from loopwright.serve import FeedbackRecord, feedback_rows, pack_feedback

if TYPE_CHECKING:
    from loopwright.store import Cursor, JournalWriter, Stores

_SEGMENT_BYTES = 16 << 20
_ALL = 1 << 62
_lock = threading.Lock()
_writers: WeakKeyDictionary[Stores, JournalWriter] = WeakKeyDictionary()


def write(stores: Stores, project: str, endpoint: str, rows: Sequence[Feedback]) -> int:
    """Put rows on the disk; how many. All of them are there when this returns, or none.

    Raises:
        Invalid: a prediction id or a time is malformed; nothing is written.
        Unavailable: the disk is full or read-only.
    """
    found = feedback_rows(rows, stores.clock.now())
    _writer(stores).append_many(pack_feedback(project, endpoint, found))
    return len(found)


def read(stores: Stores, cursor: Cursor, limit: int) -> tuple[list[FeedbackRecord], Cursor]:
    """Records that the cursor has not passed, and the cursor behind them.

    Raises:
        Corrupt: the journal is damaged.
    """
    from loopwright.store import JournalReader

    batch, after = JournalReader(feedback_folder(stores)).read_batch(cursor, limit)
    return list(_decoded(payload for _, payload in batch)), after


def between(stores: Stores, after: Cursor, until: Cursor) -> Iterator[FeedbackRecord]:
    """The records behind one cursor, up to another; the same ones each time.

    Raises:
        Corrupt: the journal is damaged.
    """
    from loopwright.store import JournalReader

    walk = JournalReader(feedback_folder(stores)).read(after, limit=_ALL)
    return _decoded(payload for at, payload in walk if at.offset < until.offsets.get(at.segment, 0))


def _decoded(payloads: Iterable[bytes]) -> Iterator[FeedbackRecord]:
    decoder = msgspec.msgpack.Decoder(FeedbackRecord)
    for payload in payloads:
        try:
            yield decoder.decode(payload)
        except msgspec.DecodeError as error:
            raise Corrupt(f"a record of the feedback journal cannot be read: {error}") from None


def _writer(stores: Stores) -> JournalWriter:
    """The one writer of this process and workspace: each append is synced to the disk before it returns."""
    from loopwright.store import JournalWriter

    with _lock:
        writer = _writers.get(stores)
        if writer is None:
            writer = JournalWriter(feedback_folder(stores), segment_bytes=_SEGMENT_BYTES, fsync_every_s=0)
            _writers[stores] = writer
            finalize(stores, writer.close)
        return writer
