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
_POOL_BYTES = 8192
_pool, _drawn = b"", 0


def new_id() -> str:
    """A new id, later (as a string) than every id that this process made before.

    48 bits of Unix milliseconds, 12 bits of the millisecond's fraction (RFC 9562 §6.2 method 3), 62 random bits.
    """
    return id_bytes(1).hex()


def new_ids(count: int) -> list[str]:
    """So many new ids in order, as `new_id` makes them, at a fraction of the cost for each."""
    digits = id_bytes(count).hex()
    return [digits[start : start + 32] for start in range(0, 32 * count, 32)]


def id_bytes(count: int) -> bytes:
    """So many new ids in order, 16 bytes each: the bytes whose digits `new_ids` gives."""
    return ids_from(*id_seeds(count))


def id_seeds(count: int) -> tuple[int, bytes]:
    """What so many new ids are made of: the first of their ticks (4096 a millisecond), and 8 random bytes for each."""
    return _reserve(count), _random(8 * count)


def ids_from(first: int, random: bytes) -> bytes:
    """The ids that seeds give, 16 bytes each."""
    count = len(random) // 8
    lows = struct.unpack(f">{count}Q", random)
    numbers = [0] * (2 * count)
    numbers[::2] = [tick >> 12 << 16 | 0x7000 | tick & 0xFFF for tick in range(first, first + count)]
    numbers[1::2] = [low >> 2 | 1 << 63 for low in lows]
    return struct.pack(f">{2 * count}Q", *numbers)


def _random(count: int) -> bytes:
    """Random bytes that nobody else gets: a call to the system for many of them."""
    global _pool, _drawn
    if count > _POOL_BYTES // 4:
        return os.urandom(count)
    with _lock:
        if _drawn + count > len(_pool):
            _pool, _drawn = os.urandom(_POOL_BYTES), 0
        _drawn += count
        return _pool[_drawn - count : _drawn]


def _forget_pool() -> None:
    """In a new process: its parent has the same bytes, and another thread may have had the lock."""
    global _pool, _lock
    _pool, _lock = b"", threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


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
