"""Ids for machines: UUIDv7 (RFC 9562) as 32 hex digits: they sort by time and serve as MLflow run ids."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import UTC, datetime

_PATTERN = re.compile(r"[0-9a-f]{32}")
_lock = threading.Lock()
_last_ticks = 0


def new_id() -> str:
    """A new id, later (as a string) than every id that this process made before.

    48 bits of Unix milliseconds, 12 bits of the millisecond's fraction (RFC 9562 §6.2 method 3), 62 random bits.
    """
    global _last_ticks
    ticks = time.time_ns() * 4096 // 1_000_000
    with _lock:
        ticks = max(ticks, _last_ticks + 1)
        _last_ticks = ticks
    milliseconds, fraction = divmod(ticks, 4096)
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return f"{(milliseconds << 80) | (7 << 76) | (fraction << 64) | (2 << 62) | random:032x}"


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return _PATTERN.fullmatch(text) is not None


def time_of(identifier: str) -> datetime:
    """When an id was made, to the millisecond, in UTC."""
    return datetime.fromtimestamp(int(identifier[:12], 16) / 1000, tz=UTC)
