"""How much memory this process has, and how it gives some back."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from loopwright.serve.metrics import resident_bytes

T = TypeVar("T")


def growth_of(work: Callable[[], T]) -> tuple[T, int]:
    """What some work gives, and by how many bytes the process has grown meanwhile, at least 0.

    What the work has given back does not count. What other threads take at the same time does: a bound that is kept
    by this figure is kept on the safe side.
    """
    trim()
    before = resident_bytes()
    found = work()
    trim()
    return found, max(0, resident_bytes() - before)


def trim() -> None:
    """Give memory that is free back to the system, where its C library can."""
    gc.collect()
    release = _malloc_trim()
    if release is not None:
        release(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # musl, macOS and Windows have none
        return None
