"""The last values of what a process records, for the eyes of whoever watches: in constant memory, off the hot path."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from loopwright.track.spool.notes import SpoolBatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from loopwright.track.spool.writer import SpoolWriter

_MAX_SERIES = 1_000
_MAX_KEPT = 256


class Traced(msgspec.Struct):
    """One metric so far: its count, its last point, and every `stride`-th of its values, in the order of recording."""

    count: int = 0
    last_step: int = 0
    last_value: float = float("nan")
    stride: int = 1
    kept: list[float] = []

    def add(self, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Take more points."""
        self.kept.extend(values[-self.count % self.stride :: self.stride].tolist())
        self.count += len(values)
        self.last_step, self.last_value = int(steps[-1]), float(values[-1])
        while len(self.kept) > _MAX_KEPT:
            self.kept = self.kept[::2]
            self.stride *= 2


class Trail:
    """What became of each metric of each run of one writer. Thread-safe."""

    def __init__(self, writer: SpoolWriter) -> None:
        self._writer, self._lock = writer, threading.Lock()
        self._series: dict[tuple[str, str], Traced] = {}
        self._place = (0, 0)

    def see(self, batch: SpoolBatch) -> None:
        """Take a batch that was read from the spool; what was taken before is left out."""
        with self._lock:
            segment, at = self._place
            if (batch.segment, batch.end) <= self._place:
                return
            if batch.start == (at if batch.segment == segment else 0):
                self._take(batch)
            else:
                self._read(batch.segment, batch.end)

    def update(self) -> None:
        """Take what was recorded since, where nobody else reads it because the workspace does not answer."""
        place = self._writer.place()
        if place.segment:
            with self._lock:
                self._read(place.segment, place.at)

    def _read(self, segment: int, end: int) -> None:
        """Take what lies between the last place and this one."""
        from loopwright.track.spool.reader import SegmentReader
        from loopwright.track.spool.segments import segments_in

        last, at = self._place
        for number in segments_in(self._writer.folder):
            if last <= number <= segment:
                reader = SegmentReader(self._writer.folder, number)
                reader.seek(at if number == last else 0)
                goes_on = number == segment
                for batch in reader.batches(end if goes_on else None, patient=goes_on):
                    self._take(batch)

    def of(self, run: str) -> dict[str, Traced]:
        """The metrics of a run, by key, in the order of their first points."""
        with self._lock:
            mine = {key: traced for (owner, key), traced in self._series.items() if owner == run}
            return {key: msgspec.structs.replace(traced, kept=list(traced.kept)) for key, traced in mine.items()}

    def forget(self, run: str) -> None:
        """Let go of a run."""
        with self._lock:
            self._series = {name: traced for name, traced in self._series.items() if name[0] != run}

    def _take(self, batch: SpoolBatch) -> None:
        self._place = (batch.segment, batch.end)
        for points in batch.points:
            name = (points.run, points.key)
            if name in self._series or len(self._series) < _MAX_SERIES:
                steps, _, values = points.columns()
                traced = self._series.setdefault(name, Traced())
                traced.add(steps, values)
