"""Frames: points of many metrics of one run that arrived together, packed as one row until they become blocks.

A call that logs a thousand metrics would touch a thousand places of the database, one for each series; a frame is one.
Its points are sorted by the number of their key, so those of one metric are a slice. Steps and times are kept as what
they exceed the lowest by, in the smallest integers that hold it, little-endian; a CRC-32 of the rest stands in front.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, bindparam, delete, func, select

from loopwright.core import Corrupt
from loopwright.track.columns import Columns, Ints
from loopwright.track.tables import run_frames

FRAME_FROM = 256
MAX_FRAMES = 512
MAX_FRAME_POINTS = 262_144
_FORMAT = 1
_HEADER = struct.Struct("<IHBBIIqq")  # CRC, format, widths of steps and times, keys, points, lowest step and time


class Frame:
    """A packed frame, of which only what is asked for is unpacked."""

    def __init__(self, data: bytes) -> None:
        """Raises:
        Corrupt: the bytes are not what `pack_frame` made.
        """
        if len(data) < _HEADER.size or zlib.crc32(memoryview(data)[4:]) != int.from_bytes(data[:4], "little"):
            raise Corrupt("metric points are damaged", next_step="restore the database, or run: loopwright fsck")
        _, form, step_width, time_width, keys, self._count, self._step, self._time = _HEADER.unpack_from(data)
        if form != _FORMAT:
            raise Corrupt(f"metric points have format {form}, which is unknown", next_step="upgrade Loopwright")
        self._data = data
        self.key_ids: Ints = np.frombuffer(data, "<i8", keys, _HEADER.size)
        place = _HEADER.size + 8 * keys
        self._ends = np.frombuffer(data, "<u4", keys, place)
        self._values_at = place + 4 * keys
        self._steps_at, self._step_kind = self._values_at + 8 * self._count, f"<u{step_width}"
        self._times_at, self._time_kind = self._steps_at + step_width * self._count, f"<u{time_width}"

    def of(self, key_id: int) -> Columns | None:
        """The points of one metric, in no order, or None."""
        number = int(self.key_ids.searchsorted(key_id))
        if number == len(self.key_ids) or self.key_ids[number] != key_id:
            return None
        return self._part(int(self._ends[number - 1]) if number else 0, int(self._ends[number]))

    def all(self) -> tuple[Ints, Columns]:
        """The key's number of each point, and the points."""
        return np.repeat(self.key_ids, np.diff(self._ends, prepend=np.uint32(0))), self._part(0, self._count)

    def _part(self, start: int, end: int) -> Columns:
        steps = _unpacked(self._data, self._step_kind, self._steps_at, start, end, self._step)
        times = _unpacked(self._data, self._time_kind, self._times_at, start, end, self._time)
        return Columns(steps, times, np.frombuffer(self._data, "<f8", end - start, self._values_at + 8 * start))


def pack_frame(key_ids: Ints, points: Columns) -> bytes:
    """The frame of points with the number of each one's key, sorted by that."""
    starts = group_starts(key_ids)
    step, steps = _packed(points.steps)
    time, times = _packed(points.times_us)
    header = _HEADER.pack(0, _FORMAT, steps.itemsize, times.itemsize, len(starts), len(points), step, time)
    body = b"".join(
        (
            *(header[4:], key_ids[starts].astype("<i8").tobytes(), group_ends(starts, key_ids).astype("<u4").tobytes()),
            *(points.values.astype("<f8").tobytes(), steps.tobytes(), times.tobytes()),
        )
    )
    return zlib.crc32(body).to_bytes(4, "little") + body


def group_starts(sorted_ids: Ints) -> npt.NDArray[np.intp]:
    """Where each group of equal numbers begins."""
    return np.flatnonzero(np.concatenate(([True], sorted_ids[1:] != sorted_ids[:-1])))


def group_ends(starts: npt.NDArray[np.intp], sorted_ids: Ints) -> npt.NDArray[np.intp]:
    """Where each group ends: behind its last number."""
    return np.append(starts[1:], len(sorted_ids))


def read_frames(connection: Connection, run_seq: int) -> list[Frame]:
    """The frames of a run."""
    query = select(run_frames.c.points).where(run_frames.c.run_seq == run_seq).order_by(run_frames.c.id)
    return [Frame(data) for data in connection.execute(query).scalars()]


_INSERT = run_frames.insert()
_TOTALS = select(func.count(), func.sum(run_frames.c.count)).where(run_frames.c.run_seq == bindparam("run_seq"))


def add_frame(tx: Connection, run_seq: int, key_ids: Ints, points: Columns) -> bool:
    """Store a frame of a run that this transaction holds; whether the run has enough of them to be unpacked."""
    tx.execute(_INSERT, {"run_seq": run_seq, "count": len(points), "points": pack_frame(key_ids, points)})
    frames, count = tx.execute(_TOTALS, {"run_seq": run_seq}).one()
    return bool(frames >= MAX_FRAMES or count >= MAX_FRAME_POINTS)


def take_frames(tx: Connection, run_seq: int) -> dict[int, Columns]:
    """Remove the frames of a run that this transaction holds; their points by key number, in no order."""
    removed = delete(run_frames).where(run_frames.c.run_seq == run_seq).returning(run_frames.c.points)
    return by_key(Frame(data) for data in tx.execute(removed).scalars())


def by_key(frames: Iterable[Frame]) -> dict[int, Columns]:
    """The points of all frames by key number."""
    parts = [frame.all() for frame in frames]
    if not parts:
        return {}
    key_ids = np.concatenate([part[0] for part in parts])
    order = np.argsort(key_ids, kind="stable")
    steps, times, values = (
        np.concatenate([getattr(part[1], name) for part in parts])[order] for name in ("steps", "times_us", "values")
    )
    distinct, starts = np.unique(key_ids[order], return_index=True)
    ends = np.append(starts[1:], len(order))
    return {
        int(key_id): Columns(steps[start:end], times[start:end], values[start:end])
        for key_id, start, end in zip(distinct, starts, ends, strict=True)
    }


def _packed(numbers: Ints) -> tuple[int, npt.NDArray[Any]]:
    """The lowest, and what each exceeds it by, in the smallest type; the difference is taken modulo 2^64."""
    whole = np.ascontiguousarray(numbers)
    lowest = whole.min()
    beyond = whole.view(np.uint64) - lowest.view(np.uint64)
    highest = int(beyond.max())
    width = next(width for width in (1, 2, 4, 8) if highest < 256**width)
    return int(lowest), beyond.astype(f"<u{width}")


def _unpacked(data: bytes, kind: str, place: int, start: int, end: int, lowest: int) -> Ints:
    width = int(kind[2:])
    beyond = np.frombuffer(data, kind, end - start, place + width * start)
    return (beyond.astype(np.uint64) + np.int64(lowest).view(np.uint64)).view(np.int64)
