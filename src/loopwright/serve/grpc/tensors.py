"""Tensors of the Open Inference Protocol V2 over gRPC: requests into rows, answers into tensors. Pure.

A tensor's values are in its `contents`, or packed little-endian in the request's `raw_input_contents`; what came raw is
answered raw.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from loopwright.core import Invalid
from loopwright.models import DATATYPES, Output
from loopwright.serve.block import Array, Block
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.loaded import LoadedVariant
from loopwright.serve.query import Answer
from loopwright.serve.rest.v2 import requested

_FEW = 8  # rows: below it plain values cost less than arrays
_TYPES = {
    "BOOL": ("?", "bool_contents"),
    "INT8": ("b", "int_contents"),
    "INT16": ("h", "int_contents"),
    "INT32": ("i", "int_contents"),
    "INT64": ("q", "int64_contents"),
    "UINT8": ("B", "uint_contents"),
    "UINT16": ("H", "uint_contents"),
    "UINT32": ("I", "uint_contents"),
    "UINT64": ("Q", "uint64_contents"),
    "FP16": ("e", ""),
    "FP32": ("f", "fp32_contents"),
    "FP64": ("d", "fp64_contents"),
    "BYTES": ("", "bytes_contents"),
}
CODES = {datatype: code for datatype, (code, _) in _TYPES.items()}
"""How `struct` and NumPy call the values of a datatype; "" for strings."""
_LENGTH = struct.Struct("<I")
_ONE, _ONE_BY_ONE = [1], [1, 1]


def rows_of(request: Any, intake: Intake) -> Rows:
    """The request's rows in the order of an endpoint's inputs.

    Either one tensor per input, of shape [rows], [rows, 1] or, where the input has a shape, [rows, *shape]; or one
    tensor of shape [rows, inputs] that holds all.

    Raises:
        Invalid: a tensor or value does not fit; the tensor and the row are named.
    """
    tensors, raw = request.inputs, request.raw_input_contents
    if not tensors:
        raise Invalid("the request has no inputs", next_step=f"the model takes {', '.join(intake.names)}")
    if raw and len(raw) != len(tensors):
        raise Invalid(f"the request has {len(tensors)} inputs and {len(raw)} raw contents")
    if intake.shaped:
        return intake.block(_arrays(tensors, raw, shaped=True))
    row = _float_row(tensors, raw, intake) if intake.floats else None
    if row is not None:
        return row
    first = tensors[0]
    shape = list(first.shape)
    if len(tensors) == 1 and len(shape) == 2 and (shape[1] != 1 or first.name not in intake.positions):
        matrix = _array(first, shape, raw[0] if raw else None).reshape(shape)
        return intake.block_of_matrix(first.name, matrix)
    if shape and 0 < shape[0] <= _FEW:
        plain = _plain_columns(tensors, raw)
        if plain is not None:
            return intake.rows(plain)
    return intake.block(_arrays(tensors, raw, shaped=False))


def _arrays(tensors: Any, raw: Any, *, shaped: bool) -> dict[str, Array]:
    """The tensors as arrays, by name: as long as there are rows, or in their own shapes."""
    columns: dict[str, Array] = {}
    for number, tensor in enumerate(tensors):
        if tensor.name in columns:
            raise Invalid(f"input {tensor.name!r} is in the request twice")
        shape = list(tensor.shape) if shaped else _column_shape(tensor)
        found = _array(tensor, shape, raw[number] if raw else None)
        columns[tensor.name] = found.reshape(shape) if shaped else found
    return columns


def _float_row(tensors: Any, raw: Any, intake: Intake) -> Block | None:
    """The row of a request with one FP32 value per input, in their order, which most requests are; None for others."""
    names = intake.names
    if len(tensors) != len(names):
        return None
    values: list[float] = []
    for tensor, name in zip(tensors, names, strict=True):
        shape = tensor.shape
        if tensor.name != name or tensor.datatype != "FP32" or (shape != _ONE and shape != _ONE_BY_ONE):
            return None
        if not raw:
            values.extend(tensor.contents.fp32_contents)
    if raw:
        packed = b"".join(raw)
        if len(packed) != 4 * len(names) or any(len(part) != 4 for part in raw):
            return None
        values = list(struct.unpack(f"<{len(names)}f", packed))
    if len(values) != len(names) or not isfinite(sum(values)):
        return None  # what is wrong with it is told below
    return Block(intake.kinds, 1, values=values)


def _plain_columns(tensors: Any, raw: Any) -> list[tuple[str, Sequence[Any]]] | None:
    """Few rows as plain values; None where a number is not finite, which the arrays' checks tell better."""
    columns: list[tuple[str, Sequence[Any]]] = []
    for number, tensor in enumerate(tensors):
        values = _values(tensor, _column_shape(tensor), raw[number] if raw else None)
        if tensor.datatype[0] == "F" and not isfinite(sum(values)):
            return None
        columns.append((tensor.name, _texts(tensor.name, values) if tensor.datatype == "BYTES" else values))
    return columns


def _column_shape(tensor: Any) -> list[int]:
    shape = list(tensor.shape)
    if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
        rows = shape[0] if shape else 0
        raise Invalid(f"input {tensor.name!r} has shape {shape}; a column has shape [{rows}] or [{rows}, 1]")
    return shape


def _values(tensor: Any, shape: list[int], raw: bytes | None) -> Sequence[Any]:
    """The tensor's values, flat, as many as its shape says."""
    code, field = _type(tensor)
    count = _count(tensor, shape)
    if raw is None:
        values = getattr(tensor.contents, field) if field else ()
        if len(values) != count:
            raise Invalid(f"input {tensor.name!r} has shape {shape} and {len(values)} values of type {tensor.datatype}")
        return list(values)
    if not code:
        return _unpacked_texts(tensor.name, raw, count)
    _check_size(tensor, shape, raw, count * struct.calcsize(code))
    return struct.unpack(f"<{count}{code}", raw)


def _array(tensor: Any, shape: list[int], raw: bytes | None) -> Array:
    """The tensor's values, flat, as an array."""
    code, _ = _type(tensor)
    if raw is None or not code:
        values = _values(tensor, shape, raw)
        if not code:
            values = _texts(tensor.name, values)
            found = np.empty(len(values), dtype=object)
            found[:] = values
            return found
        return np.array(values, dtype=code)
    _check_size(tensor, shape, raw, _count(tensor, shape) * struct.calcsize(code))
    return np.frombuffer(raw, dtype=f"<{code}")


def _type(tensor: Any) -> tuple[str, str]:
    found = _TYPES.get(tensor.datatype)
    if found is None:
        raise Invalid(
            f"input {tensor.name!r} has datatype {tensor.datatype!r}, which is not taken here",
            next_step=f"use one of {', '.join(_TYPES)}",
        )
    return found


def _count(tensor: Any, shape: list[int]) -> int:
    if not shape or min(shape) <= 0:
        raise Invalid(f"input {tensor.name!r} has shape {shape}, which holds no rows")
    return prod(shape)


def _check_size(tensor: Any, shape: list[int], raw: bytes, due: int) -> None:
    if len(raw) != due:
        raise Invalid(f"input {tensor.name!r} has {len(raw)} bytes; {tensor.datatype} of shape {shape} takes {due}")


def _unpacked_texts(name: str, raw: bytes, count: int) -> list[bytes]:
    """Strings, each behind its length in four bytes."""
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) <= count:
        end = at + 4
        size = _LENGTH.unpack_from(raw, at)[0] if end <= len(raw) else 0
        if end + size > len(raw):
            raise Invalid(f"input {name!r}: string {len(found)} goes beyond the tensor's {len(raw)} bytes")
        found.append(raw[end : end + size])
        at = end + size
    if len(found) != count:
        raise Invalid(f"input {name!r} holds {'more' if len(found) > count else len(found)} strings; {count} are due")
    return found


def _texts(name: str, values: Iterable[bytes]) -> list[str]:
    found = []
    for row, value in enumerate(values):
        try:
            found.append(value.decode())
        except UnicodeDecodeError:
            raise Invalid(f"input {name!r}, row {row}: is not UTF-8") from None
    return found


def outputs_of(request: Any, loaded: LoadedVariant) -> tuple[Output, ...]:
    """The outputs that a request asks of a variant; all of them if it names none.

    Raises:
        Invalid: there is no such output, or not in that form.
    """
    outputs: tuple[Output, ...] = loaded.predictor.signature.outputs
    return requested(request.outputs, outputs) if request.outputs else outputs


def write_outputs(response: Any, answer: Answer, outputs: Sequence[Output], *, raw: bool) -> None:
    """Add an answer's tensors to a response."""
    arrays = answer.arrays()
    count = len(answer.ids)
    for output in outputs:
        datatype = DATATYPES[output.dtype]
        code, field = _TYPES[datatype]
        tensor = response.outputs.add(name=output.name, datatype=datatype, shape=[count, *output.shape])
        values = arrays[output.name]
        if raw:
            response.raw_output_contents.append(_packed(values, code))
        elif code:
            getattr(tensor.contents, field).extend(values.astype(f"<{code}", copy=False).ravel().tolist())
        else:
            tensor.contents.bytes_contents.extend(_encoded(values))


def _packed(values: Array, code: str) -> bytes:
    if code:
        return values.astype(f"<{code}", copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(text)) + text for text in _encoded(values))


def _encoded(values: Array) -> list[bytes]:
    return [str(value).encode() for value in values.ravel().tolist()]
