"""The bytes of a spool's segment: pure functions.

A segment is a sequence of slots of 32 bytes; slots that were not written yet are zero. A point fills one slot:

    CRC-32 (4 bytes) · series number (4) · step (8) · Unix nanoseconds (8) · value as IEEE 754 double (8)

A note (a new series, params, the end of a run, …) has a head of one slot with series number 0 (the step's place holds
its length, the value's place the CRC-32 of its payload), and the payload behind it, filled up to whole slots.
All numbers are little-endian. A slot's CRC starts from the segment's seed and the slot's place, so that neither bytes
that a user stored nor a slot of another place or segment are ever taken for a record.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLOT_BYTES = 32
BODY = struct.Struct("<Iqqd")
RECORD = struct.Struct("<I28s")
_HEAD = struct.Struct("<IqqQ")
_ROWS_AT_ONCE = 32_768


class Note(NamedTuple):
    """A note as it lies in a segment: its first slot, the slot behind it, and its payload."""

    first: int
    behind: int
    payload: bytes


class Slots(NamedTuple):
    """What some slots of a segment hold.

    first: the number of the first slot.
    notes: the whole notes, in order.
    points: by slot, whether a whole point is there.
    unknown: by slot, whether it holds bytes that belong to no whole record.
    series, steps, times_ns, values: the columns of all slots; meaningful where `points` says so.
    """

    first: int
    notes: list[Note]
    points: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    series: NDArray[np.uint32]
    steps: NDArray[np.int64]
    times_ns: NDArray[np.int64]
    values: NDArray[np.float64]


def seed_of(spool: str, segment: int) -> int:
    """What the CRCs of a segment's slots start from, before the slot's place is mixed in."""
    return crc32(f"{spool}/{segment}".encode())


def note_bytes(payload: bytes) -> int:
    """How much room a note takes."""
    return SLOT_BYTES + -(-len(payload) // SLOT_BYTES) * SLOT_BYTES


def write_note(buffer: Any, at: int, seed: int, payload: bytes, now_ns: int) -> None:
    """Write a note at a place; the head comes last, so that what was cut off never looks whole."""
    start = at + SLOT_BYTES
    buffer[start : start + len(payload)] = payload
    body = _HEAD.pack(0, len(payload), now_ns, crc32(payload))
    RECORD.pack_into(buffer, at, crc32(body, seed ^ at), body)


def write_point(buffer: Any, at: int, seed: int, series: int, step: int, time_ns: int, value: float) -> None:
    """Write a point at a place."""
    body = BODY.pack(series, step, time_ns, value)
    RECORD.pack_into(buffer, at, crc32(body, seed ^ at), body)


def read_slots(data: bytes | memoryview, first: int, seed: int) -> Slots:
    """What whole slots hold; a note whose payload reaches beyond them is unknown.

    Args:
        data: the bytes from slot `first` on.
        first: the number of that slot in its segment.
        seed: of the segment.
    """
    import numpy as np

    count = len(data) // SLOT_BYTES
    data = memoryview(data)[: count * SLOT_BYTES]
    rows = np.frombuffer(data, dtype=_row_type())
    whole = _checked(np.frombuffer(data, dtype="<u4").reshape(count, 8), first, seed)
    series = rows["series"]
    notes, of_notes = _notes(data, first, np.flatnonzero(whole & (series == 0)), rows)
    points = whole & (series > 0) & ~of_notes
    unknown = ~points & ~of_notes & _written(data, count)
    return Slots(first, notes, points, unknown, series, rows["steps"], rows["times_ns"], rows["values"])


def _notes(
    data: memoryview, first: int, heads: NDArray[np.intp], rows: NDArray[np.void]
) -> tuple[list[Note], NDArray[np.bool_]]:
    """The whole notes, and which slots they cover. A head inside a note is a part of that note's payload."""
    import numpy as np

    covered: NDArray[np.bool_] = np.zeros(len(rows), dtype=np.bool_)
    notes = []
    for head in heads.tolist():
        if covered[head]:
            continue
        _, length, _, check = _HEAD.unpack_from(data, head * SLOT_BYTES + 4)
        start = (head + 1) * SLOT_BYTES
        if not 0 <= length <= len(data) - start:
            continue
        payload = bytes(data[start : start + length])
        if crc32(payload) == check:
            behind = head + note_bytes(payload) // SLOT_BYTES
            covered[head:behind] = True
            notes.append(Note(first + head, first + behind, payload))
    return notes, covered


def _written(data: memoryview, count: int) -> NDArray[np.bool_]:
    """Which slots are not zero."""
    import numpy as np

    words = np.frombuffer(data, dtype="<u8").reshape(count, 4)
    written: NDArray[np.bool_] = np.bitwise_or.reduce(words, axis=1) != 0
    return written


def _checked(words: NDArray[np.uint32], first: int, seed: int) -> NDArray[np.bool_]:
    """By slot, whether its CRC holds: CRC-32 (IEEE 802.3) of words 1 to 7, all slots side by side, a word at a time
    (slicing: Kounavis and Berry 2008, "Novel table lookup-based algorithms for high-performance CRC generation")."""
    import numpy as np

    low, high = _tables()
    found = np.empty(len(words), dtype=np.bool_)
    for start in range(0, len(words), _ROWS_AT_ONCE):
        part = words[start : start + _ROWS_AT_ONCE]
        places = (np.arange(first + start, first + start + len(part), dtype=np.uint64) * SLOT_BYTES).astype(np.uint32)
        crc = ~(places ^ np.uint32(seed))
        for column in range(1, 8):
            crc ^= part[:, column]
            crc = low[crc & np.uint32(0xFFFF)] ^ high[crc >> np.uint32(16)]
        np.equal(~crc, part[:, 0], out=found[start : start + len(part)])
    return found


@cache
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The CRC of every two bytes that are followed by two (low) or by no (high) zero bytes."""
    import numpy as np

    crc = np.arange(1 << 16, dtype=np.uint32)
    low = high = crc
    for bit in range(32):
        if bit == 16:
            high = crc
        crc = np.where(crc & 1, (crc >> np.uint32(1)) ^ np.uint32(0xEDB88320), crc >> np.uint32(1)).astype(np.uint32)
    low = crc
    return low, high


@cache
def _row_type() -> np.dtype[np.void]:
    import numpy as np

    return np.dtype([("crc", "<u4"), ("series", "<u4"), ("steps", "<i8"), ("times_ns", "<i8"), ("values", "<f8")])
