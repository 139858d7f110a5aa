"""Points of metrics as tests write and compare them: (step, Unix microseconds, bits of the value)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from loopwright.track import Columns, MetricHistory, columns_of
from loopwright.track.values import from_bits, to_bits

Point: TypeAlias = tuple[int, int, int]


def points_of(history: MetricHistory) -> list[Point]:
    """The points of a history, in its order."""
    return list(zip(history.steps, history.times_us, map(to_bits, history.floats()), strict=True))


def columns(points: Sequence[Point]) -> Columns:
    """The same points as columns, in the order given."""
    steps, times, bits = zip(*points, strict=True) if points else ((), (), ())
    return columns_of(list(steps), list(times), [from_bits(item) for item in bits])
