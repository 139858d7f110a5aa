"""Points of one series as columns, sorted the way that a history reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loopwright.core import Invalid
from loopwright.track.model import Value

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_ALL_BUT_SIGN = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_WIRE: dict[str, Value] = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class Columns(msgspec.Struct, frozen=True, eq=False):
    """Points of one metric, in arrays of equal length: steps, Unix microseconds, values."""

    steps: Ints
    times_us: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def part(self, chosen: Any) -> Columns:
        """The points at these positions: a slice, a mask or indexes."""
        return Columns(self.steps[chosen], self.times_us[chosen], self.values[chosen])


class Mixed(msgspec.Struct, frozen=True, eq=False):
    """Points of several metrics of one run, in no order: `names` says which of `keys` each one is of, by position."""

    keys: tuple[str, ...]
    names: Ints
    points: Columns

    def __len__(self) -> int:
        return len(self.points)


def columns_of(steps: Any, times_us: Any, values: Any, key: str = "") -> Columns:
    """Columns from sequences of numbers.

    Raises:
        Invalid: they differ in length, or a step or time is no 64-bit whole number.
    """
    try:
        made = Columns(_whole(steps), _whole(times_us), np.asarray(values, np.float64))
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(f"the points of metric {key!r} are no columns of numbers: {error}") from None
    shapes = {made.steps.shape, made.times_us.shape, made.values.shape}
    if len(shapes) != 1 or made.steps.ndim != 1:
        raise Invalid(
            f"the columns of metric {key!r} have {made.steps.size} steps, {made.times_us.size} times "
            f"and {made.values.size} values",
            next_step="give one of each for every point",
        )
    return made


def from_rows(rows: Sequence[Sequence[int]]) -> Columns:
    """Columns from (step, time, bits), as `run_points` has them."""
    table = np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows)).reshape(-1, 3)
    return Columns(table[:, 0], table[:, 1], floats_of(table[:, 2]))


def to_rows(columns: Columns) -> list[tuple[int, int, int]]:
    """The points as (step, time, bits)."""
    columns_as_lists = (columns.steps.tolist(), columns.times_us.tolist(), order_bits(columns.values).tolist())
    return list(zip(*columns_as_lists, strict=True))


def joined(parts: Iterable[Columns]) -> Columns:
    """All points of several columns, sorted, each once."""
    some = [part for part in parts if len(part)]
    if not some:
        return Columns(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    return in_order(together(some))


def together(parts: Sequence[Columns]) -> Columns:
    """All points of several columns, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Columns(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times_us for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def in_order(columns: Columns) -> Columns:
    """The points by step, then time, then value; identical ones once."""
    steps = columns.steps
    if _rising(steps):
        return columns
    if not bool((steps[1:] >= steps[:-1]).all()):
        columns = columns.part(np.argsort(steps, kind="stable"))
        if _rising(columns.steps):
            return columns
    bits = order_bits(columns.values)
    order = np.lexsort((bits, columns.times_us, columns.steps))
    columns, bits = columns.part(order), bits[order]
    fresh = np.ones(len(columns), np.bool_)
    fresh[1:] = columns.steps[1:] != columns.steps[:-1]
    fresh[1:] |= columns.times_us[1:] != columns.times_us[:-1]
    fresh[1:] |= bits[1:] != bits[:-1]
    return columns if bool(fresh.all()) else columns.part(fresh)


def order_bits(values: Floats) -> Ints:
    """The integers that `values.to_bits` gives, for a whole column."""
    bits = np.where(np.isnan(values), np.nan, values).view(np.int64)
    return np.where(bits < 0, bits ^ _ALL_BUT_SIGN, bits)


def floats_of(bits: Ints) -> Floats:
    """The floats behind the integers of `order_bits`."""
    return np.where(bits < 0, bits ^ _ALL_BUT_SIGN, bits).view(np.float64)


def to_wire_list(values: Floats) -> list[Value]:
    """The values in the form that JSON can hold."""
    found: list[Value] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        found[place] = _WIRE[str(found[place])]
    return found


def _rising(steps: Ints) -> bool:
    return bool((steps[1:] > steps[:-1]).all())


def _whole(numbers: Any) -> Ints:
    made = np.asarray(numbers)
    if made.size and not np.issubdtype(made.dtype, np.integer):
        raise ValueError(f"{made.dtype} is no type of whole numbers")
    if made.dtype == np.uint64 and made.size and int(made.max()) > int(_ALL_BUT_SIGN):
        raise ValueError(f"{int(made.max())} has more than 64 bits with its sign")
    return made.astype(np.int64, copy=False)
