"""Inputs with several values a row: vectors, token ids, images. Values in any form become arrays [rows, *shape].

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from loopwright.core import DType, Invalid, digest_bytes
from loopwright.serve.block import KIND_OF, Array, Block

LOGGED_BYTES = 1024
"""Of one row's value: a longer one is in the prediction log as its digest, type and shape."""
_VALUES_A_ROW = 256
_FLOAT32_LIMIT = 3.4e38
_NUMBERS = "fiub"
_WORDS = {"f": "numbers", "i": "whole numbers of 64 bits", "b": "true and false"}


class Shaped:
    """What one input takes: arrays of its shape and type, whole."""

    def __init__(self, name: str, dtype: DType, shape: tuple[int, ...]) -> None:
        """Args:
        shape: of one row's value.
        """
        self.name, self.dtype, self.shape = name, dtype, shape
        self._kind, self._size = KIND_OF[dtype], prod(shape)

    def check(self, values: Array) -> Array:
        """Values in the input's type.

        Args:
            values: of the input's shape.

        Raises:
            Invalid: one is missing, infinite or of another type; the input and the row are named.
        """
        if values.dtype.kind not in _NUMBERS:
            values = self._numbers(values.ravel().tolist()).reshape(values.shape)
        found = self._cast(values)
        if found is None:
            raise self._refusal(self._first_row(values), f"takes {_WORDS[self._kind]}")
        if found.dtype.kind == "f":
            self._check_range(found)
        return found

    def check_shape(self, values: Array) -> None:
        """Refuse another shape than the input's.

        Raises:
            Invalid: it is another.
        """
        if not values.ndim or values.shape[1:] != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise Invalid(
                f"input {self.name!r} has shape {list(values.shape)}; the model takes [rows, {wanted}]",
                next_step="the first dimension is the row",
            )

    def of_rows(self, rows: Sequence[Any]) -> Array:
        """An array of values given row by row, as nested lists.

        Raises:
            Invalid: a row has another shape, or holds something else than numbers; the input and the row are named.
        """
        try:
            found: Array = np.array(rows)
        except (ValueError, OverflowError):  # lists of different lengths, or nested too deep
            found = np.empty(0, dtype=object)
        one = found.shape[1:]
        if found.dtype.kind in _NUMBERS and (one in (self.shape, (1, *self.shape)) or (not one and self._size == 1)):
            return found.reshape(len(rows), *self.shape)
        for number, row in enumerate(rows):
            self._check_row(number, row)
        raise self._refusal(0, f"takes {_WORDS[self._kind]} of shape {list(self.shape)}")

    def _check_row(self, number: int, row: Any) -> None:
        try:
            found: Array = np.array(row)
        except (ValueError, OverflowError):
            raise self._refusal(number, "has lists of different lengths, or nested too deep") from None
        if found.dtype.kind not in _NUMBERS:
            bad = next((item for item in _leaves(row) if not isinstance(item, bool | int | float)), row)
            raise self._refusal(number, f"takes {_WORDS[self._kind]}, not {str(bad)[:60]!r}")
        if found.shape not in (self.shape, (1, *self.shape)):
            raise self._refusal(number, f"has shape {list(found.shape)}; the model takes {list(self.shape)}")

    def _numbers(self, flat: list[Any]) -> Array:
        """Plain values as an array of numbers."""
        found: Array = np.array(flat)
        if found.dtype.kind in _NUMBERS:
            return found
        for place, value in enumerate(flat):
            if not isinstance(value, bool | int | float):
                shown = "null" if value is None else repr(value)[:60]
                raise self._refusal(place // self._size, f"takes {_WORDS[self._kind]}, not {shown}")
        raise self._refusal(0, "holds a number that does not fit 64 bits")

    def _cast(self, values: Array) -> Array | None:
        """Numbers in the input's type; None where one is of another."""
        given = values.dtype.kind
        if self._kind == "f":
            if given == "f":
                return values if values.dtype.itemsize in (4, 8) else values.astype(np.float32)
            return None if given == "b" else values.astype(np.float64)
        if given == "b" or (self._kind == "i" and given == "i"):
            return (values if given == "b" else values.astype(np.int64, copy=False)) if given == self._kind else None
        with np.errstate(invalid="ignore"):
            cast = values.astype(np.int64 if self._kind == "i" else np.bool_)
        return cast if bool((cast == values).all()) and not (given == "u" and (values > 1 << 62).any()) else None

    def _check_range(self, values: Array) -> None:
        limit = _FLOAT32_LIMIT if self.dtype is DType.FLOAT32 else np.inf
        with np.errstate(invalid="ignore"):
            good = np.abs(values) < limit
        if not good.all():
            row = int(np.argwhere(~good)[0][0])
            is_missing = bool(np.isnan(values[row]).any())
            raise self._refusal(row, "holds NaN" if is_missing else "holds a number that is too large for its type")

    def _first_row(self, values: Array) -> int:
        """The first row with a value of another type."""
        for row in range(len(values)):
            if self._cast(values[row]) is None:
                return row
        return 0

    def _refusal(self, row: int, fact: str) -> Invalid:
        return Invalid(f"input {self.name!r}, row {row}: {fact}")


def load_of(shapes: Sequence[tuple[int, ...]]) -> int:
    """How many rows of single values a row with inputs of these shapes counts as, where rows are bounded: one for each
    256 values, or part of them."""
    return max(1, -(-sum([prod(shape) for shape in shapes if shape]) // _VALUES_A_ROW))


def digested(rows: Block) -> Block:
    """The rows, with a text in place of each value that is too long for the prediction log.

    Such as `blake3:9f…e2 float32[3,224,224]`: of the value's bytes, little-endian, in the order of its dimensions.
    """
    columns, kinds = rows.columns, list(rows.kinds)
    for at, column in enumerate(columns):
        if column is not None and column.ndim > 1 and column[:1].nbytes > LOGGED_BYTES:
            columns[at], kinds[at] = _digests(column), "s"
    return Block("".join(kinds), rows.count, columns=columns)


def _digests(column: Array) -> Array:
    kind = f"{column.dtype.name}[{','.join(map(str, column.shape[1:]))}]"
    values = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<"))
    found = np.empty(len(values), dtype=object)
    found[:] = [f"blake3:{digest_bytes(row.tobytes())} {kind}" for row in values]
    return found


def _leaves(value: Any) -> list[Any]:
    """The values in nested lists."""
    found = [value]
    while any(isinstance(item, list) for item in found):
        found = list(chain.from_iterable(item if isinstance(item, list) else [item] for item in found))
    return found


def array_of(values: Sequence[Any], shape: Sequence[int]) -> Array:
    """Plain values of a tensor, flat, as an array of that shape that leaves their types to who checks them."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found.reshape(shape)
