"""Intake: values as a caller gives them become rows in the order of an endpoint's inputs, checked one by one.

The variants of one endpoint may take different inputs. A row holds those of all of them; each variant picks its own,
and one that is missing is missed only by a variant that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loopwright.core import Invalid
from loopwright.models import Input, Signature
from loopwright.serve.block import Array, Block
from loopwright.serve.column import ABSENT, TYPES, Column
from loopwright.serve.shaped import load_of

Row = list[Any]
Rows = list[Row] | Block
"""Rows as a query holds them: lists of plain values, or a block of arrays."""


class Intake:
    """The inputs of an endpoint: those of all of its variants, each once.

    Attributes:
        shaped: whether an input has several values a row; rows are blocks then.
        load: how many rows one row counts as, where rows are bounded.
    """

    def __init__(self, signatures: Sequence[Signature]) -> None:
        self.columns = [Column(item) for item in _united(signatures)]
        self.names = tuple(column.name for column in self.columns)
        self.positions = {name: position for position, name in enumerate(self.names)}
        self.uniform = all(_rules(signature) == _rules(signatures[0]) for signature in signatures)
        self.numeric = all(column.kind != "s" for column in self.columns)
        self.kinds = "".join(column.kind for column in self.columns)
        self.load = load_of([column.shape for column in self.columns])
        self.shaped = any(item.shape for signature in signatures for item in signature.inputs)
        self.floats = set(self.kinds) == {"f"} and not self.shaped

    def rows(self, columns: Sequence[tuple[str, Sequence[Any]]]) -> Rows:
        """Rows from named columns of equal length; a value that has a shape is a nested list.

        Raises:
            Invalid: an input is unknown, named twice, missing, of another length, or holds a value of another type.
        """
        if self.shaped:
            return self._block_of_values(columns)
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

    def _block_of_values(self, columns: Sequence[tuple[str, Sequence[Any]]]) -> Block:
        arrays: dict[str, Array] = {}
        for name, values in columns:
            if name in arrays:
                raise Invalid(f"input {name!r} is in the request twice")
            if name not in self.positions:
                raise self._unknown(name)
            arrays[name] = self.columns[self.positions[name]].of_rows(values)
        return self.block(arrays)

    def rows_of_matrix(self, name: str, values: Sequence[Any], width: int) -> list[Row]:
        """Rows from one tensor that holds all inputs, in order.

        Raises:
            Invalid: it has another width, or holds a value of another type.
        """
        self._check_width(name, width)
        rows = [list(values[start : start + width]) for start in range(0, len(values), width)]
        for number, row in enumerate(rows):
            for position, column in enumerate(self.columns):
                value = row[position]
                if value.__class__ not in column.plain:
                    row[position] = column.check(value, number)
        return rows

    def block(self, columns: Mapping[str, Array]) -> Block:
        """Rows from named arrays of equal length, each of shape [rows], [rows, 1] or, for an input with a shape,
        [rows, *shape].

        A missing number is NaN (also among whole numbers, given as floats then), a missing string None.

        Raises:
            Invalid: an input is unknown, missing, of another length, or holds a value that it does not take.
        """
        given: list[Array | None] = [None] * len(self.columns)
        count = -1
        for name, values in columns.items():
            position = self.positions.get(name)
            if position is None:
                raise self._unknown(name)
            flat = self.columns[position].laid_out(values)
            if count not in (-1, len(flat)):
                raise Invalid(f"input {name!r} has {len(flat)} values, where {next(iter(columns))!r} has {count}")
            count = len(flat)
            given[position] = self.columns[position].check_array(flat)
        if count <= 0:
            raise Invalid("the request has no rows", next_step=f"the model takes {self._listed()}")
        self._check_whole(given)
        return Block(self.kinds, count, columns=given)

    def block_of_matrix(self, name: str, matrix: Array) -> Block:
        """Rows from one array [rows, inputs] that holds all inputs, in order.

        Raises:
            Invalid: it has another width, or holds a value that its input does not take.
        """
        if self.shaped:
            return self.block({name: matrix})
        self._check_width(name, matrix.shape[1])
        if not len(matrix):
            raise Invalid(f"the tensor {name!r} has no rows")
        if not self.floats or matrix.dtype.kind != "f" or matrix.dtype.itemsize < 4:
            return self.block({column.name: matrix[:, at] for at, column in enumerate(self.columns)})
        if b"\0" in np.isfinite(matrix).tobytes():  # half as long as `all` takes for few rows
            for at, column in enumerate(self.columns):
                column.check_array(matrix[:, at])
        return Block(self.kinds, len(matrix), matrix=matrix)

    def _check_width(self, name: str, width: int) -> None:
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

    def _check_whole(self, given: Sequence[Any]) -> None:
        """Refuse a request that lacks an input, where all variants take it."""
        absent = [name for name, values in zip(self.names, given, strict=True) if values is None]
        if absent and self.uniform:
            raise Invalid(
                f"the request lacks the input(s) {', '.join(absent)}", next_step=f"the model takes {self._listed()}"
            )

    def _fill_absent(self, given: list[Any], count: int) -> None:
        self._check_whole(given)
        for position, values in enumerate(given):
            if values is None:
                given[position] = [ABSENT] * count

    def _unknown(self, name: str) -> Invalid:
        return Invalid(f"there is no input {name!r}", next_step=f"the model takes {self._listed()}")

    def _listed(self) -> str:
        return ", ".join(self.names)


class Projection:
    """How one variant picks its inputs out of an endpoint's row."""

    def __init__(self, intake: Intake, signature: Signature) -> None:
        self._columns = [Column(item) for item in signature.inputs]
        self._positions = [intake.positions[item.name] for item in signature.inputs]
        self._kinds = "".join(column.kind for column in self._columns)
        self.is_identity = intake.uniform

    def project(self, rows: Rows) -> Rows:
        """The variant's inputs of each row, in the form in which they came.

        Raises:
            Invalid: one that it needs is absent, missing, or of another type.
        """
        if self.is_identity:
            return rows
        if isinstance(rows, Block):
            return rows.select(self._positions, lambda at, values: self._columns[at].check_array(values), self._kinds)
        pairs = list(zip(self._columns, self._positions, strict=True))
        return [[column.check(row[at], number) for column, at in pairs] for number, row in enumerate(rows)]


def _united(signatures: Sequence[Signature]) -> list[Input]:
    """Each input once, in order of appearance, with the widest type and nullability that a variant has for it."""
    found: dict[str, Input] = {}
    for signature in signatures:
        for item in signature.inputs:
            known = found.setdefault(item.name, item)
            if item.shape != known.shape:
                both = f"{list(known.shape)} and {list(item.shape)}"
                raise Invalid(
                    f"the variants take input {item.name!r} in different shapes: {both}",
                    next_step="give them endpoints of their own",
                )
            if TYPES[item.dtype] > TYPES[known.dtype]:
                nullable = known.nullable or item.nullable
                found[item.name] = Input(item.name, item.dtype, nullable=nullable, shape=item.shape)
            elif item.nullable and not known.nullable:
                found[item.name] = Input(item.name, known.dtype, nullable=True, shape=item.shape)
    return list(found.values())


def _rules(signature: Signature) -> list[tuple[str, frozenset[type], bool]]:
    return [(item.name, TYPES[item.dtype], item.nullable) for item in signature.inputs]
