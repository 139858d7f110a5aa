"""Ids for machines: UUIDv7 (RFC 9562) as 32 hex digits: they sort by time and serve as MLflow run ids."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache

_PATTERN = re.compile(r"[0-9a-f]{32}")
_lock = threading.Lock()
_last_ticks = 0
_FRACTIONS = 4096  # ticks of a millisecond
_TOGETHER = 256  # ids that are made as one number
_POOL_BYTES = 8192
_pool, _drawn = b"", 0


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
    first, made = _reserve(count), []
    while count:
        some = min(count, _TOGETHER, _FRACTIONS - first % _FRACTIONS)
        made.append(_in_one_millisecond(first, some))
        first += some
        count -= some
    return made[0] if len(made) == 1 else b"".join(made)


def _one() -> bytes:
    tick = _reserve(1)
    random = int.from_bytes(_random(8), "big") >> 2 | (2 << 62)
    return ((tick >> 12 << 16 | 0x7000 | tick & 0xFFF) << 64 | random).to_bytes(16, "big")


def _in_one_millisecond(first: int, count: int) -> bytes:
    """The ids of ticks that differ in nothing but the fraction, as one number: sums of numbers that stand in no other's
    way."""
    ones, steps, free, fixed = _places(count)
    highs = (first >> 12 << 16 | 0x7000 | first & 0xFFF) * ones + steps
    random = int.from_bytes(_random(16 * count), "big") & free
    return (highs | random | fixed).to_bytes(16 * count, "big")


@lru_cache(maxsize=_TOGETHER)
def _places(count: int) -> tuple[int, int, int, int]:
    """For so many ids in a row: where the upper half of each is one, and where they are 0, 1, 2, ...; the bits that are
    random, and those of the variant."""
    ones = sum(1 << 128 * place + 64 for place in range(count))
    steps = sum((count - 1 - place) << 128 * place + 64 for place in range(count))
    return ones, steps, (ones >> 64) * (2**62 - 1), (ones >> 64) << 63


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
