"""Blocks: up to 16,384 points of one series, packed, with a summary from which a plot is drawn.

Packed points are a header, the values as 64-bit floats, and the differences of steps and of times in the smallest
integers that hold them (none where they are all equal). Differences are taken modulo 2^64, so that every step and
time comes back. A summary has one part for about 256 points, an outline one for eight of those. Parts and blocks end
where a step ends, unless one step has more points than a part holds: then it has parts of its own. So the parts of one
block never share a step with a neighbour that also holds other steps. All is little-endian, behind a CRC-32 of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loopwright.core import Corrupt
from loopwright.track.columns import Columns, Ints, order_bits

BLOCK_POINTS = 16_384
PART_POINTS = 256
PARTS_IN_OUTLINE = 8
PART = np.dtype(
    [
        ("first_step", "<i8"),
        ("last_step", "<i8"),
        ("last_at", "<i8"),
        ("last", "<f8"),
        ("low", "<f8"),
        ("low_step", "<i8"),
        ("high", "<f8"),
        ("high_step", "<i8"),
        ("count", "<i8"),
        ("nans", "<i8"),
    ]
)
Parts = npt.NDArray[Any]
_FORMAT = 1
_HEADER = struct.Struct("<IHBBIqqqq4x")  # CRC, format, widths of steps and times, count, first and common difference
_NEVER = np.iinfo(np.int64).max


class Block(msgspec.Struct, frozen=True):
    """A row of `run_blocks`, but for its series."""

    first_step: int
    last_step: int
    count: int
    outline: bytes
    summary: bytes
    points: bytes


def pack(columns: Columns) -> list[Block]:
    """Blocks of points that are in order."""
    bounds = _cuts(columns.steps, BLOCK_POINTS)
    return [_block(columns.part(slice(start, end))) for start, end in pairwise(bounds)]


def unpack(data: bytes) -> Columns:
    """The points of a block.

    Raises:
        Corrupt: the bytes are not what `pack` made.
    """
    if len(data) < _HEADER.size or zlib.crc32(memoryview(data)[4:]) != int.from_bytes(data[:4], "little"):
        raise Corrupt("a block of metric points is damaged", next_step="restore the database, or run: loopwright fsck")
    _, form, step_width, time_width, count, step, step_by, at, at_by = _HEADER.unpack_from(data)
    if form != _FORMAT:
        raise Corrupt(f"a block of metric points has format {form}, which is unknown", next_step="upgrade Loopwright")
    place = _HEADER.size
    values = np.frombuffer(data, "<f8", count, place)
    place += 8 * count
    steps = _undiffed(data, place, count, step, step_by, f"<u{step_width}" if step_width else "")
    place += step_width * (count - 1)
    return Columns(steps, _undiffed(data, place, count, at, at_by, f"<i{time_width}" if time_width else ""), values)


def parts_of(sealed: Iterable[bytes]) -> Parts:
    """The parts of blocks' summaries or outlines, one after the other.

    Raises:
        Corrupt: the bytes are not what `pack` made.
    """
    found = []
    for data in sealed:
        parts = memoryview(data)[4:]
        if zlib.crc32(parts) != int.from_bytes(data[:4], "little"):
            raise Corrupt("the summary of metric points is damaged", next_step="restore the database from a backup")
        found.append(parts)
    return np.frombuffer(b"".join(found), PART)


def summed(columns: Columns) -> Parts:
    """The parts of points that are in order, about 256 points each."""
    return grouped_points(columns, np.array(_cuts(columns.steps, PART_POINTS)[:-1], np.intp))


def grouped_points(columns: Columns, starts: npt.NDArray[np.intp]) -> Parts:
    """Neighbouring points, which are in order, as parts: each begins at one of `starts` and ends before the next."""
    parts = np.zeros(len(starts), PART)
    if not len(starts):
        return parts
    ends = np.append(starts[1:], len(columns))
    parts["first_step"], parts["last_step"] = columns.steps[starts], columns.steps[ends - 1]
    parts["last_at"], parts["last"] = columns.times_us[ends - 1], columns.values[ends - 1]
    parts["count"] = ends - starts
    parts["nans"] = np.add.reduceat(np.isnan(columns.values), starts, dtype=np.int64)
    for name, ufunc in _EXTREMES.items():
        parts[name] = ufunc.reduceat(columns.values, starts)
        found = np.flatnonzero(columns.values == np.repeat(parts[name], ends - starts))
        first = found[np.minimum(found.searchsorted(starts), len(found) - 1)] if len(found) else starts
        parts[f"{name}_step"] = np.where(np.isnan(parts[name]), parts["first_step"], columns.steps[first])
    return parts


def each_point(columns: Columns) -> Parts:
    """One part for each point."""
    parts = np.zeros(len(columns), PART)
    for name in ("first_step", "last_step", "low_step", "high_step"):
        parts[name] = columns.steps
    for name in ("last", "low", "high"):
        parts[name] = columns.values
    parts["last_at"], parts["count"], parts["nans"] = columns.times_us, 1, np.isnan(columns.values)
    return parts


def grouped(parts: Parts, starts: npt.NDArray[np.integer[Any]]) -> Parts:
    """Neighbouring parts as one: the first of each group is at `starts`, the last before the next.

    The lowest and highest values leave NaN aside, and are NaN where a group has nothing else; their step is the first
    that has them.
    """
    made = np.zeros(len(starts), PART)
    if not len(starts):
        return made
    ends = np.append(starts[1:], len(parts)) - 1
    made["first_step"] = np.minimum.reduceat(parts["first_step"], starts)
    for name in ("last_step", "last_at", "last"):
        made[name] = parts[name][ends]
    for name in ("count", "nans"):
        made[name] = np.add.reduceat(parts[name], starts)
    sizes = ends - starts + 1
    made["low"], made["high"] = (ufunc.reduceat(parts[name], starts) for name, ufunc in _EXTREMES.items())
    for name in _EXTREMES:
        found = parts[name] == np.repeat(made[name], sizes)
        first = np.minimum.reduceat(np.where(found, parts[f"{name}_step"], _NEVER), starts)
        made[f"{name}_step"] = np.where(np.isnan(made[name]), made["first_step"], first)
    return made


def latest_last(parts: Parts) -> npt.NDArray[np.intp]:
    """The order of parts by their last points: step, time, value."""
    return np.lexsort((order_bits(parts["last"]), parts["last_at"], parts["last_step"]))


def _block(columns: Columns) -> Block:
    parts = summed(columns)
    outline = grouped(parts, np.arange(0, len(parts), PARTS_IN_OUTLINE)) if len(parts) > 1 else parts
    return Block(
        first_step=int(columns.steps[0]),
        last_step=int(columns.steps[-1]),
        count=len(columns),
        outline=_sealed(outline.tobytes()),
        summary=_sealed(parts.tobytes()),
        points=_packed(columns),
    )


def _sealed(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little") + data


def _packed(columns: Columns) -> bytes:
    step_by, steps = _diffed(columns.steps, "u")
    at_by, times = _diffed(columns.times_us, "i")
    values = np.where(np.isnan(columns.values), np.nan, columns.values).astype("<f8", copy=False)
    header = _HEADER.pack(
        *(0, _FORMAT, steps.itemsize if steps.size else 0, times.itemsize if times.size else 0, len(columns)),
        *(int(columns.steps[0]), step_by, int(columns.times_us[0]), at_by),
    )
    return _sealed(b"".join((header[4:], values.tobytes(), steps.tobytes(), times.tobytes())))


def _diffed(numbers: Ints, sign: str) -> tuple[int, npt.NDArray[Any]]:
    """The common difference and nothing, or 0 and the differences in the smallest type that holds them."""
    raw = np.diff(numbers.astype(np.uint64))
    differences = raw if sign == "u" else raw.view(np.int64)
    low, high = (differences.min(), differences.max()) if differences.size else (0, 0)
    if low == high and int(high) <= _NEVER:
        return int(high), np.empty(0, np.int8)
    for width in (1, 2, 4):
        held = np.iinfo(f"{sign}{width}")
        if held.min <= low and high <= held.max:
            return 0, differences.astype(f"<{sign}{width}")
    return 0, differences.astype(f"<{sign}8")


def _undiffed(data: bytes, place: int, count: int, first: int, by: int, kind: str) -> Ints:
    if not kind:
        return np.int64(first) + np.arange(count, dtype=np.int64) * np.int64(by)
    numbers = np.empty(count, np.uint64)
    numbers[:1] = np.int64(first).view(np.uint64)
    numbers[1:] = np.frombuffer(data, kind, count - 1, place).astype(np.int64 if "i" in kind else np.uint64)
    return np.cumsum(numbers, dtype=np.uint64).view(np.int64)


def _cuts(steps: Ints, size: int) -> list[int]:
    """Where to cut, ends included: about every `size` points, and between steps where that is possible."""
    goals = np.arange(size, len(steps), size)
    firsts = np.searchsorted(steps, steps[goals], "left")
    beyonds = np.searchsorted(steps, steps[goals], "right")
    crowded = beyonds - firsts > size
    cuts = np.concatenate(([0, len(steps)], firsts, goals[crowded], beyonds[crowded]))
    found: list[int] = np.unique(cuts).tolist()
    return found


_EXTREMES: dict[str, np.ufunc] = {"low": np.fmin, "high": np.fmax}
