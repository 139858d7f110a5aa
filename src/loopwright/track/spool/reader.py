"""The reading side of a spool: from the slots of one segment to batches that a workspace takes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loopwright.track.spool.layout import SLOT_BYTES, Slots, read_slots, seed_of
from loopwright.track.spool.notes import FileKept, Note, Points, SeriesNamed, SpoolBatch, decode_note
from loopwright.track.spool.segments import read_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SLOTS = 196_608  # 6 MiB: as columns or as notes it is less than what a server takes at once


class SegmentReader:
    """Reads one segment from its beginning on, perhaps while it is being written.

    position: the bytes that batches were made of so far.
    damaged: slots so far that held bytes of no whole record.
    unknown: points so far whose series no note names.
    """

    def __init__(self, folder: Path, segment: int) -> None:
        self.folder, self.spool, self.segment = folder, folder.name, segment
        self.position = self.damaged = self.unknown = 0
        self._seed = seed_of(self.spool, segment)
        self._series: dict[int, tuple[str, str]] = {}

    def batches(self, end: int | None = None, *, patient: bool = False) -> Iterator[SpoolBatch]:
        """What lies between `position` and `end`, in batches; each moves `position` when the next one is asked for.

        Args:
            end: where to stop; by default at the last byte that was written.
            patient: stop at a slot that is reserved and not yet written, since its writer lives; otherwise such
                slots are passed over, and damaged ones counted.
        """
        while True:
            start = self.position
            stop = start + BATCH_SLOTS * SLOT_BYTES
            if end is None and not any(read_part(self.folder, self.segment, start, start + SLOT_BYTES)) and patient:
                return  # nothing new, as most of the times when somebody asks
            data = read_part(self.folder, self.segment, start, stop if end is None else min(stop, end))
            slots = self._whole(data, start, end)
            count = _usable(slots, patient)
            if not count:
                return
            yield from self._cut(slots, count)

    def _whole(self, data: bytes, start: int, end: int | None) -> Slots:
        """The slots of these bytes; of more, where a long note begins in them and ends behind them."""
        slots = read_slots(data, start // SLOT_BYTES, self._seed)
        if len(data) < BATCH_SLOTS * SLOT_BYTES or not slots.unknown.any():
            return slots
        return read_slots(read_part(self.folder, self.segment, start, end), start // SLOT_BYTES, self._seed)

    def seek(self, position: int) -> None:
        """Go on at a place that a batch ended at, before or in the future; the names of series are learnt on the way.

        Raises:
            ValueError: it is no place of a slot.
        """
        if position % SLOT_BYTES:
            raise ValueError(f"{position} is no place of a slot")
        if position < self.position:
            self.position = 0
            self._series.clear()
        before, self.damaged, self.unknown = (self.damaged, self.unknown), 0, 0
        for _ in self.batches(position):
            pass
        self.position = position
        self.damaged, self.unknown = before

    def _cut(self, slots: Slots, count: int) -> Iterator[SpoolBatch]:
        """Batches of these slots; one that begins with a kept file holds none other, so that the file goes first."""
        notes = [(note.first - slots.first, _decoded(note.payload)) for note in slots.notes]
        cuts = sorted({0, count, *(at for at, note in notes if isinstance(note, FileKept) and at < count)})
        for first, behind in pairwise(cuts):
            kept = [note for at, note in notes if first <= at < behind and note is not None]
            for note in kept:
                if isinstance(note, SeriesNamed):
                    self._series.update({number: (run, key) for number, run, key in note.series})
            start, end = (slots.first + first) * SLOT_BYTES, (slots.first + behind) * SLOT_BYTES
            wanted: list[Note] = [note for note in kept if not isinstance(note, SeriesNamed)]
            points, unknown = self._points(slots, first, behind)
            yield SpoolBatch(self.spool, self.segment, start, end, wanted, points)
            self.position = end
            self.unknown += unknown
            self.damaged += int(slots.unknown[first:behind].sum())

    def _points(self, slots: Slots, first: int, behind: int) -> tuple[list[Points], int]:
        """The points of some slots, one item per series, and how many belong to no series that is named."""
        at = np.flatnonzero(slots.points[first:behind]) + first
        if not len(at):
            return [], 0
        series = slots.series[at]
        order = np.argsort(series, kind="stable")
        at, series = at[order], series[order]
        starts = np.flatnonzero(np.diff(series, prepend=0))
        found, unknown = [], 0
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(at)], strict=True):
            named = self._series.get(int(series[start]))
            if named is None:
                unknown += end - start
            else:
                found.append(_columns(*named, slots, at[start:end]))
        return found, unknown


def _usable(slots: Slots, patient: bool) -> int:
    """How many of the slots can be taken now."""
    if patient:
        holes = ~slots.points
        for note in slots.notes:
            holes[note.first - slots.first : note.behind - slots.first] = False
        found = np.flatnonzero(holes)
        return int(found[0]) if len(found) else len(slots.points)
    last = max((note.behind - slots.first for note in slots.notes), default=0)
    written = np.flatnonzero(slots.points | slots.unknown)
    return max(last, int(written[-1]) + 1 if len(written) else 0)


def _columns(run: str, key: str, slots: Slots, at: NDArray[np.intp]) -> Points:
    times_us = slots.times_ns[at] // 1000
    return Points(run, key, slots.steps[at].tobytes(), times_us.tobytes(), slots.values[at].tobytes())


def _decoded(payload: bytes) -> Note | None:
    """The note, or None for one of a newer version of Loopwright."""
    try:
        return decode_note(payload)
    except msgspec.DecodeError:
        return None
