"""One input of an endpoint: which values it takes, one by one or as an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import NoneType
from typing import Any

import numpy as np

from loopwright.core import DType, Invalid
from loopwright.models import Input
from loopwright.serve.block import KIND_OF, Array
from loopwright.serve.shaped import Shaped, array_of

ABSENT: Any = type("Absent", (), {"__slots__": (), "__repr__": lambda _: "absent"})()
"""Stands in a row for an input that the request did not name."""

TYPES: dict[DType, frozenset[type]] = {
    DType.BOOL: frozenset({bool}),
    DType.INT64: frozenset({int}),
    DType.FLOAT32: frozenset({float, int}),
    DType.FLOAT64: frozenset({float, int}),
    DType.STRING: frozenset({str}),
}
_MOST_BITS = 128
_WORDS = {
    DType.BOOL: "true or false",
    DType.INT64: "a whole number",
    DType.FLOAT32: "a number",
    DType.FLOAT64: "a number",
    DType.STRING: "a string",
}
_INT64_LIMIT = 1 << 63


class Column:
    """One input: which values it takes."""

    __slots__ = ("allowed", "dtype", "is_whole", "kind", "name", "nullable", "plain", "shaped")

    def __init__(self, item: Input) -> None:
        self.name, self.dtype, self.nullable = item.name, item.dtype, item.nullable
        self.allowed = TYPES[item.dtype] | ({NoneType} if item.nullable else set())
        self.is_whole = item.dtype is DType.INT64
        self.kind = KIND_OF[item.dtype]
        self.plain = self.allowed - {int}  # needs no second look
        self.shaped = Shaped(item.name, item.dtype, item.shape) if item.shape else None

    def check_all(self, values: Sequence[Any]) -> Sequence[Any]:
        """The values, in the column's type.

        Raises:
            Invalid: one has another type; the column and the row are named.
        """
        if set(map(type, values)) <= self.plain:
            return values
        return [self.check(value, row) for row, value in enumerate(values)]

    def check(self, value: Any, row: int) -> Any:
        """One value, in the column's type.

        A whole number becomes a float where the column has floats; a float that is whole passes for a whole number, and
        0 and 1 pass for truth values.

        Raises:
            Invalid: it has another type.
        """
        kind = value.__class__
        if kind in self.plain:
            return value
        if kind is int and kind in self.allowed:
            return self._whole(value, row)
        if self.is_whole and kind is float and value.is_integer():
            return self.check(int(value), row)
        if self.dtype is DType.BOOL and kind is int and value in (0, 1):
            return bool(value)
        if value is None:
            raise self._refusal(row, "is missing (null), and training never saw it missing")
        if value is ABSENT:
            raise self._refusal(row, "is not in the request")
        raise self._refusal(row, f"takes {_WORDS[self.dtype]}, not {_shown(value)}")

    def check_array(self, values: Array | None) -> Array:
        """An array of values, in the column's type: a missing number is NaN, a missing string None.

        Raises:
            Invalid: one is missing or infinite, or has another type; the column and the row are named.
        """
        if values is None:
            raise self._refusal(0, "is not in the request")
        if self.shaped is not None:
            return self.shaped.check(values)
        if values.dtype.kind == "f" and self.kind == "f":
            found = values if values.dtype.itemsize in (4, 8) else values.astype(np.float32)
        elif self.kind == "s" or values.dtype.kind not in "fiub":
            found = _array_of(self.check_all(self._plain(values)), self.kind)
        else:
            found = self._number_array(values)
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            self._check_finite(found)
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row's value; empty for a single one."""
        return () if self.shaped is None else self.shaped.shape

    def laid_out(self, values: Array) -> Array:
        """An array of the input's shape: [rows], for which [rows, 1] is taken too, or [rows, *shape].

        Raises:
            Invalid: it has another shape.
        """
        if self.shaped is not None:
            self.shaped.check_shape(values)
        elif values.ndim == 2 and values.shape[1] == 1:
            return values[:, 0]
        elif values.ndim != 1:
            shape = list(values.shape)
            raise Invalid(f"input {self.name!r} has shape {shape}; a column has shape {shape[:1]} or {[*shape[:1], 1]}")
        return values

    def of_rows(self, values: Sequence[Any]) -> Array:
        """Plain values row by row, as an array; values of a shape are nested lists.

        Raises:
            Invalid: a row has another shape, or is missing; the input and the row are named.
        """
        absent = next((row for row, value in enumerate(values) if value is ABSENT), None)
        if absent is not None:
            raise self._refusal(absent, "is not in the request")
        return array_of(values, [len(values)]) if self.shaped is None else self.shaped.of_rows(values)

    def _number_array(self, values: Array) -> Array:
        """Numbers of another type than the column's."""
        kind, given = self.kind, values.dtype.kind
        if kind == given:
            return values.astype(np.int64, copy=False) if kind == "i" else values
        if (kind == "f" and given in "iu") or (kind == "i" and values.dtype in (np.uint8, np.uint16, np.uint32)):
            return values.astype(np.float64 if kind == "f" else np.int64)
        listed = [None if value != value else value for value in values.tolist()]
        return _array_of([self.check(value, row) for row, value in enumerate(listed)], kind)

    def _plain(self, values: Array) -> list[Any]:
        """An array of any type as Python's own values; bytes are read as UTF-8."""
        listed: list[Any] = values.tolist()
        if values.dtype.kind in "SO":
            listed = [self._text(item, row) if isinstance(item, bytes) else item for row, item in enumerate(listed)]
        return listed

    def _text(self, value: bytes, row: int) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise self._refusal(row, "is not UTF-8") from None

    def _check_finite(self, values: Array) -> None:
        for row in np.flatnonzero(~np.isfinite(values)).tolist():
            if np.isinf(values[row]):
                raise self._refusal(row, "is infinite, or too large for its type")
            if not self.nullable:
                raise self._refusal(row, "is missing (NaN), and training never saw it missing")

    def _whole(self, value: int, row: int) -> int | float:
        if self.is_whole:
            if -_INT64_LIMIT <= value < _INT64_LIMIT:
                return value
            raise self._refusal(row, f"{_shown(value)} does not fit 64 bits")
        try:
            return float(value)
        except OverflowError:
            raise self._refusal(row, "is too large for a number") from None

    def _refusal(self, row: int, fact: str) -> Invalid:
        return Invalid(f"input {self.name!r}, row {row}: {fact}")


def _array_of(values: Sequence[Any], kind: str) -> Array:
    """Checked values as an array of the kind that a block has for them."""
    if kind == "s":
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found
    if None in values:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(values, dtype={"f": np.float64, "i": np.int64, "b": np.bool_}[kind])


def _shown(value: Any) -> str:
    if value.__class__ is int and value.bit_length() > _MOST_BITS:  # Python refuses to write very long ones
        return f"a whole number of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
