"""Sketches as plain records for MessagePack: no code is run by reading one."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import msgspec

from loopwright.stats.moments import Moments

if TYPE_CHECKING:
    from loopwright.stats.sketches import ColumnSketch

_LARGEST_BYTES = 1 << 28
_DEEPEST = 56


class PackedColumn(msgspec.Struct, frozen=True, array_like=True):
    """One column's sketch. Arrays are little-endian bytes."""

    kind: str
    nulls: int
    low: float
    high: float
    moments: tuple[int, float, float]
    k: int
    n: int
    levels: list[bytes]
    compactions: list[int]
    capacity: int
    counted: int
    error: int
    frequent: list[tuple[str, int]]
    registers: bytes


def pack_column(column: ColumnSketch) -> PackedColumn:
    """The record of a column's sketch."""
    quantiles, frequent = column._quantiles, column._frequent
    moments = column.moments
    return PackedColumn(
        kind=str(column.kind),
        nulls=column.nulls,
        low=column.min,
        high=column.max,
        moments=(moments.n, moments.mean, moments.squares),
        k=quantiles.k,
        n=quantiles.n,
        levels=[level.astype("<f4").tobytes() for level in quantiles.levels],
        compactions=quantiles.compactions,
        capacity=frequent.capacity,
        counted=frequent.n,
        error=frequent.error,
        frequent=frequent.top(),
        registers=column._distinct.registers.tobytes(),
    )


def unpack_column(packed: PackedColumn, column: ColumnSketch) -> ColumnSketch:
    """The sketch of a record, in `column`, which is empty and of the record's kind.

    Raises:
        ValueError: the record contradicts itself.
    """
    import numpy as np

    column.nulls, column.min, column.max = packed.nulls, packed.low, packed.high
    column.moments = Moments(*packed.moments)
    quantiles, frequent = column._quantiles, column._frequent
    quantiles.k, quantiles.n, quantiles.compactions = packed.k, packed.n, list(packed.compactions)
    quantiles.levels = [np.frombuffer(level, dtype="<f4").astype(np.float32) for level in packed.levels]
    frequent.capacity, frequent.n, frequent.error = packed.capacity, packed.counted, packed.error
    frequent.counts = dict(packed.frequent)
    registers = np.frombuffer(packed.registers, dtype=np.uint8).copy()
    _check(packed, sum(len(level) << depth for depth, level in enumerate(quantiles.levels)), len(registers))
    column._distinct.registers = registers
    return column


def inflate(data: bytes) -> bytes:
    """Decompress, up to 256 MiB.

    Raises:
        ValueError: it would be more.
        zlib.error: it is not compressed data.
    """
    machine = zlib.decompressobj()
    body = machine.decompress(data, _LARGEST_BYTES)
    if not machine.eof:
        raise ValueError("it is cut off or larger than a sketch can be")
    return body


def _check(packed: PackedColumn, weight: int, registers: int) -> None:
    if len(packed.levels) > _DEEPEST or len(packed.levels) != len(packed.compactions):
        raise ValueError(f"{len(packed.levels)} levels with {len(packed.compactions)} counters")
    if weight != packed.n:
        raise ValueError(f"the kept values stand for {weight} values, not for {packed.n}")
    if registers != 4096:
        raise ValueError(f"{registers} registers instead of 4096")
