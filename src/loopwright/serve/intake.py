"""Intake: values as a caller gives them become rows in the order of an endpoint's inputs, checked one by one.

The variants of one endpoint may take different inputs. A row holds those of all of them; each variant picks its own,
and one that is missing is missed only by a variant that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

from loopwright.core import DType, Invalid
from loopwright.models import Input, Signature

Row = list[Any]
ABSENT: Any = type("Absent", (), {"__slots__": (), "__repr__": lambda _: "absent"})()
"""Stands in a row for an input that the request did not name."""

_TYPES: dict[DType, frozenset[type]] = {
    DType.BOOL: frozenset({bool}),
    DType.INT64: frozenset({int}),
    DType.FLOAT32: frozenset({float, int}),
    DType.FLOAT64: frozenset({float, int}),
    DType.STRING: frozenset({str}),
}
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

    __slots__ = ("allowed", "dtype", "is_whole", "name", "nullable", "plain")

    def __init__(self, item: Input) -> None:
        self.name, self.dtype, self.nullable = item.name, item.dtype, item.nullable
        self.allowed = _TYPES[item.dtype] | ({NoneType} if item.nullable else set())
        self.is_whole = item.dtype is DType.INT64
        self.plain = self.allowed - {int}  # needs no second look

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


class Intake:
    """The inputs of an endpoint: those of all of its variants, each once."""

    def __init__(self, signatures: Sequence[Signature]) -> None:
        self.columns = [Column(item) for item in _united(signatures)]
        self.names = tuple(column.name for column in self.columns)
        self.positions = {name: position for position, name in enumerate(self.names)}
        self.uniform = all(_rules(signature) == _rules(signatures[0]) for signature in signatures)
        self.numeric = all(column.dtype is not DType.STRING for column in self.columns)

    def rows(self, columns: Sequence[tuple[str, Sequence[Any]]]) -> list[Row]:
        """Rows from named columns of equal length.

        Raises:
            Invalid: an input is unknown, named twice, missing, of another length, or holds a value of another type.
        """
        count = len(columns[0][1])
        given: list[Any] = [None] * len(self.columns)
        seen = 0
        for name, values in columns:
            position = self.positions.get(name)
            if position is None:
                raise self._unknown(name)
            if given[position] is not None:
                raise Invalid(f"input {name!r} is in the request twice")
            if len(values) != count:
                raise Invalid(f"input {name!r} has {len(values)} values, where {columns[0][0]!r} has {count}")
            given[position] = self.columns[position].check_all(values)
            seen += 1
        if seen < len(given):
            self._fill_absent(given, count)
        if count == 1:
            return [[values[0] for values in given]]
        return [list(row) for row in zip(*given, strict=True)]

    def rows_of_matrix(self, name: str, values: Sequence[Any], width: int) -> list[Row]:
        """Rows from one tensor that holds all inputs, in order.

        Raises:
            Invalid: it has another width, or holds a value of another type.
        """
        if not self.numeric:
            raise Invalid(
                f"the tensor {name!r} cannot hold all inputs, as some are strings",
                next_step=f"send one tensor per input: {', '.join(self.names)}",
            )
        if width != len(self.columns):
            raise Invalid(
                f"the tensor {name!r} has {width} values a row; the model takes {len(self.columns)}",
                next_step=f"in this order: {', '.join(self.names)}",
            )
        rows = [list(values[start : start + width]) for start in range(0, len(values), width)]
        for number, row in enumerate(rows):
            for position, column in enumerate(self.columns):
                value = row[position]
                if value.__class__ not in column.plain:
                    row[position] = column.check(value, number)
        return rows

    def _fill_absent(self, given: list[Any], count: int) -> None:
        absent = [name for name, values in zip(self.names, given, strict=True) if values is None]
        if self.uniform:
            raise Invalid(
                f"the request lacks the input(s) {', '.join(absent)}", next_step=f"the model takes {self._listed()}"
            )
        for name in absent:
            given[self.positions[name]] = [ABSENT] * count

    def _unknown(self, name: str) -> Invalid:
        return Invalid(f"there is no input {name!r}", next_step=f"the model takes {self._listed()}")

    def _listed(self) -> str:
        return ", ".join(self.names)


class Projection:
    """How one variant picks its inputs out of an endpoint's row."""

    def __init__(self, intake: Intake, signature: Signature) -> None:
        self._columns = [Column(item) for item in signature.inputs]
        self._positions = [intake.positions[item.name] for item in signature.inputs]
        self.is_identity = intake.uniform

    def project(self, rows: list[Row]) -> list[Row]:
        """The variant's inputs of each row.

        Raises:
            Invalid: one that it needs is absent, missing, or of another type.
        """
        if self.is_identity:
            return rows
        pairs = list(zip(self._columns, self._positions, strict=True))
        return [[column.check(row[at], number) for column, at in pairs] for number, row in enumerate(rows)]


def _united(signatures: Sequence[Signature]) -> list[Input]:
    """Each input once, in order of appearance, with the widest type and nullability that a variant has for it."""
    found: dict[str, Input] = {}
    for signature in signatures:
        for item in signature.inputs:
            known = found.setdefault(item.name, item)
            if _TYPES[item.dtype] > _TYPES[known.dtype]:
                found[item.name] = Input(item.name, item.dtype, nullable=known.nullable or item.nullable)
            elif item.nullable and not known.nullable:
                found[item.name] = Input(item.name, known.dtype, nullable=True)
    return list(found.values())


def _rules(signature: Signature) -> list[tuple[str, frozenset[type], bool]]:
    return [(item.name, _TYPES[item.dtype], item.nullable) for item in signature.inputs]


def _shown(value: Any) -> str:
    text = hex(value) if value.__class__ is int and abs(value) >= _INT64_LIMIT else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
