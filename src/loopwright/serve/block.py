"""Blocks: checked rows as arrays, for whoever has many values at hand and no use for each one as an object."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from loopwright.core import DType

Array = np.ndarray[Any, Any]
KIND_OF = {DType.FLOAT32: "f", DType.FLOAT64: "f", DType.INT64: "i", DType.BOOL: "b", DType.STRING: "s"}


class Block:
    """Rows in the order of an endpoint's inputs, in one of three forms; treat it as immutable.

    A missing number is NaN and a missing string None. A column that the request did not name is None.

    Attributes:
        count: how many rows.
        kinds: per column, what its values are: `f` floats, `i` whole numbers, `b` truth values, `s` strings.
        is_narrow: whether all values are known to be numbers within float32.
    """

    __slots__ = ("_columns", "_matrix", "count", "is_narrow", "kinds", "values")

    def __init__(
        self,
        kinds: str,
        count: int,
        *,
        values: list[float] | None = None,
        matrix: Array | None = None,
        columns: Sequence[Array | None] | None = None,
        is_narrow: bool = False,
    ) -> None:
        """Args:
        count: how many rows.
        values, matrix, columns: one of them: all values row by row, a matrix [rows, inputs], or an array per column.
            The first two are for endpoints whose inputs are all floats.
        """
        self.kinds, self.count, self.is_narrow = kinds, count, is_narrow
        self.values, self._matrix, self._columns = values, matrix, columns

    def __len__(self) -> int:
        return self.count

    @property
    def is_matrix(self) -> bool:
        """Whether it is one array, or a list of values that becomes one."""
        return self._columns is None

    @property
    def matrix(self) -> Array:
        """All values as [rows, inputs]: floats of 64 bits, or of 32 where they came so."""
        if self._matrix is None:
            if self._columns is not None:
                return np.stack([np.asarray(column, dtype=np.float64) for column in self._columns], axis=1)
            values = self.values or []
            packed = struct.pack(f"{len(values)}d", *values)  # a third of the time that np.array takes for a list
            self._matrix = np.frombuffer(packed).reshape(self.count, len(self.kinds))
        return self._matrix

    @property
    def columns(self) -> list[Array | None]:
        """An array per column; None for one that the request did not name."""
        if self._columns is not None:
            return list(self._columns)
        return list(self.matrix.T)

    def rows(self, absent: Any = None) -> list[list[Any]]:
        """Plain values by row, None for a missing one; `absent` for one that the request did not name."""
        if self._columns is None:
            return _listed_rows(self.matrix)
        listed = [
            [absent] * self.count if column is None else plain_values(column, kind)
            for column, kind in zip(self._columns, self.kinds, strict=True)
        ]
        return [list(row) for row in zip(*listed, strict=True)]

    def take(self, places: Sequence[int] | slice) -> Block:
        """Some of the rows."""
        at: Any = places if isinstance(places, slice) else np.asarray(places, dtype=np.intp)
        count = len(range(self.count)[places]) if isinstance(places, slice) else len(places)
        if self._columns is None:
            return Block(self.kinds, count, matrix=self.matrix[at])
        columns = [None if column is None else column[at] for column in self._columns]
        return Block(self.kinds, count, columns=columns)

    def select(self, positions: Sequence[int], check: Callable[[int, Array | None], Array], kinds: str) -> Block:
        """Some of the columns, each as `check` gives it back: called with its number here, and the array."""
        columns = self.columns
        found = [check(number, columns[at]) for number, at in enumerate(positions)]
        return Block(kinds, self.count, columns=found)


def merge(blocks: Sequence[Block]) -> Block:
    """The rows of all blocks, one behind the other; all have the same columns."""
    first = blocks[0]
    if len(blocks) == 1:
        return first
    count = sum([block.count for block in blocks])
    lists = [block.values for block in blocks if block.values is not None]
    if len(lists) == len(blocks):
        return Block(first.kinds, count, values=list(chain.from_iterable(lists)))
    if all(block.is_matrix for block in blocks):
        return Block(first.kinds, count, matrix=np.concatenate([block.matrix for block in blocks]))
    by_column = zip(*(block.columns for block in blocks), strict=True)
    return Block(first.kinds, count, columns=[np.concatenate(column) for column in by_column])


def plain_values(column: Array, kind: str) -> list[Any]:
    """A column as Python's own values, None for a missing one."""
    if column.dtype.kind != "f":
        return [None if value is None else value for value in column.tolist()]
    missing = np.isnan(column)
    listed: list[Any] = column.tolist()
    if kind in "ib":
        turn: Callable[[float], Any] = int if kind == "i" else bool
        return [None if gone else turn(value) for value, gone in zip(listed, missing.tolist(), strict=True)]
    if missing.any():
        return [None if gone else value for value, gone in zip(listed, missing.tolist(), strict=True)]
    return listed


def _listed_rows(matrix: Array) -> list[list[Any]]:
    rows: list[list[Any]] = matrix.tolist()
    for row, column in np.argwhere(np.isnan(matrix)).tolist():
        rows[row][column] = None
    return rows
