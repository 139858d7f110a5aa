"""Ids for machines: UUIDv7 (RFC 9562) as 32 hex digits: they sort by time and serve as MLflow run ids."""

from __future__ import annotations

import os
import re
import struct
import threading
import time
from datetime import UTC, datetime

_PATTERN = re.compile(r"[0-9a-f]{32}")
_lock = threading.Lock()
_last_ticks = 0
_MANY = 24  # from here on arrays are quicker


def new_id() -> str:
    """A new id, later (as a string) than every id that this process made before.

    48 bits of Unix milliseconds, 12 bits of the millisecond's fraction (RFC 9562 §6.2 method 3), 62 random bits.
    """
    return _one().hex()


def new_ids(count: int) -> list[str]:
    """So many new ids in order, as `new_id` makes them, at a fraction of the cost for each."""
    if count == 1:
        return [new_id()]
    digits = id_bytes(count).hex()
    return [digits[start : start + 32] for start in range(0, 32 * count, 32)]


def id_bytes(count: int) -> bytes:
    """So many new ids in order, 16 bytes each: the bytes whose digits `new_ids` gives."""
    if count == 1:
        return _one()
    first = _reserve(count)
    if count < _MANY:
        halves = [0] * (2 * count)
        halves[::2] = [(tick >> 12 << 16) | 0x7000 | (tick & 0xFFF) for tick in range(first, first + count)]
        random = struct.unpack(f">{count}Q", os.urandom(8 * count))
        halves[1::2] = [(number >> 2) | (2 << 62) for number in random]
        return struct.pack(f">{2 * count}Q", *halves)
    import numpy as np

    ticks = np.arange(first, first + count, dtype=np.uint64)
    made = np.empty((count, 2), dtype=">u8")
    made[:, 0] = (ticks >> 12 << 16) | 0x7000 | (ticks & 0xFFF)
    made[:, 1] = (np.frombuffer(os.urandom(8 * count), dtype=np.uint64) >> 2) | np.uint64(2 << 62)
    return made.tobytes()


def _one() -> bytes:
    tick = _reserve(1)
    random = int.from_bytes(os.urandom(8), "big") >> 2 | (2 << 62)
    return ((tick >> 12 << 16 | 0x7000 | tick & 0xFFF) << 64 | random).to_bytes(16, "big")


def _reserve(count: int) -> int:
    """The first of so many ticks (a 4096th of a millisecond each) that no other id has."""
    global _last_ticks
    ticks = time.time_ns() * 4096 // 1_000_000
    with _lock:
        first = max(ticks, _last_ticks + 1)
        _last_ticks = first + count - 1
    return first


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return _PATTERN.fullmatch(text) is not None


def time_of(identifier: str) -> datetime:
    """When an id was made, to the millisecond, in UTC."""
    return datetime.fromtimestamp(int(identifier[:12], 16) / 1000, tz=UTC)
