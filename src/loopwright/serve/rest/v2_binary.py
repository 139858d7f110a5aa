"""The binary tensor extension of the Open Inference Protocol V2: requests with raw bytes behind the JSON. Pure.

https://github.com/triton-inference-server/server, `docs/protocol/extension_binary_data.md`. Numbers are little-endian,
and a string is its length in 4 bytes and itself. Which of the tensors are binary is said tensor by tensor.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from math import prod
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from loopwright.core import Invalid
from loopwright.serve.block import Array
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.rest import v2

HEADER = b"inference-header-content-length"
OCTETS = b"application/octet-stream"
TYPES = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BF16": "<u2",
}  # fmt: skip
LENGTH = struct.Struct("<I")
_MOST_DIMENSIONS = 8
_REMEMBERED_BYTES = 1024


class _Parameters(msgspec.Struct, frozen=True, gc=False):
    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """A tensor of a request: its values are in `data`, or behind the JSON in so many bytes."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: _Parameters = _Parameters()


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request with tensors in either form; the other fields are as in `v2.InferRequest`."""

    inputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[v2.RequestedOutput] | None = None


class _Matrix(msgspec.Struct, frozen=True, gc=False):
    name: str
    shape: tuple[int, int]
    datatype: Literal["FP32", "FP64"]
    parameters: _Parameters


class _MatrixRequest(msgspec.Struct, frozen=True, gc=False):
    inputs: tuple[_Matrix]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[v2.RequestedOutput] | None = None


_decode = msgspec.json.Decoder(Request).decode
_decode_matrix = msgspec.json.Decoder(_MatrixRequest).decode


def read_request(body: bytes, header: bytes, intake: Intake) -> tuple[Any, Rows]:
    """The request in a body (with the fields `id`, `parameters` and `outputs`), and its rows.

    Args:
        header: how long the JSON is, as the request's header says.

    Raises:
        Invalid: it is not of the extension's form, or does not fit the endpoint; the tensor and the row are named.
    """
    size = int(header) if header.isdigit() and len(header) < 12 else -1
    if not 0 <= size <= len(body):
        raise Invalid(
            f"Inference-Header-Content-Length is {header.decode('latin-1')[:40]!r}, and the body has {len(body)} bytes",
            next_step="it is the length of the JSON in front of the tensors",
        )
    text, raw = body[:size], memoryview(body[size:])  # a copy, as arrays that begin anywhere are slow to read
    request = _read_matrix(text) if len(text) > _REMEMBERED_BYTES else _remembered_matrix(text)
    if request is None:
        return _read_any(text, raw, intake)
    return request, intake.block_of_matrix(request.inputs[0].name, _one_matrix(request.inputs[0], raw))


def _read_matrix(text: bytes) -> _MatrixRequest | None:
    """The JSON of a request with one tensor of floats that holds all inputs; None for any other."""
    try:
        return _decode_matrix(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


_remembered_matrix = lru_cache(256)(_read_matrix)  # what changes from request to request is behind the JSON


def _one_matrix(tensor: _Matrix, raw: memoryview) -> Array:
    rows, width = tensor.shape
    size = tensor.parameters.binary_data_size
    dtype = TYPES[tensor.datatype]
    if rows < 0 or width < 1 or size != len(raw) or rows * width * int(dtype[2:]) != size:
        raise _wrong_size(tensor, size, len(raw))
    return np.frombuffer(raw, dtype=dtype).reshape(rows, width)


def _read_any(text: bytes, raw: memoryview, intake: Intake) -> tuple[Request, Rows]:
    try:
        request = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Invalid(f"the request is not of the protocol's form: {error}") from None
    if not request.inputs:
        raise Invalid("the request has no inputs", next_step=f"the model takes {', '.join(intake.names)}")
    arrays: list[tuple[str, Array]] = []
    for tensor in request.inputs:
        array, raw = _array(tensor, raw)
        arrays.append((tensor.name, array))
    if len(raw):
        raise Invalid(f"{len(raw)} bytes are left behind the last tensor")
    name, first = arrays[0]
    if len(arrays) == 1 and first.ndim == 2 and (first.shape[1] != 1 or name not in intake.positions):
        return request, intake.block_of_matrix(name, first)
    columns = dict(arrays)
    if len(columns) < len(arrays):
        raise Invalid("an input is in the request twice")
    return request, intake.block(columns)


def _array(tensor: Tensor, raw: memoryview) -> tuple[Array, memoryview]:
    """The values of a tensor, and the bytes behind it."""
    shape = tensor.shape
    if not shape or len(shape) > _MOST_DIMENSIONS or min(shape) < 0:
        raise Invalid(f"input {tensor.name!r} has shape {shape[:_MOST_DIMENSIONS]}")
    size = tensor.parameters.binary_data_size
    if size is None:
        values = v2.values_of(v2.InputTensor(tensor.name, shape, tensor.datatype, tensor.data or []))
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found.reshape(shape), raw
    if size > len(raw):
        raise _wrong_size(tensor, size, len(raw))
    mine, rest = raw[:size], raw[size:]
    if tensor.datatype == "BYTES":
        return _strings(tensor, mine).reshape(shape), rest
    dtype = TYPES.get(tensor.datatype)
    if dtype is None:
        raise Invalid(
            f"input {tensor.name!r} has datatype {tensor.datatype!r}, which the protocol does not know",
            next_step=f"use one of {', '.join(TYPES)}, BYTES",
        )
    if prod(shape) * np.dtype(dtype).itemsize != size:
        raise _wrong_size(tensor, size, len(raw))
    found = np.frombuffer(mine, dtype=dtype).reshape(shape)
    if tensor.datatype == "BF16":  # the upper half of a float32
        found = (found.astype("<u4") << 16).view("<f4")
    return found, rest


def _strings(tensor: Tensor, raw: memoryview) -> Array:
    count, at = prod(tensor.shape), 0
    if count * LENGTH.size > len(raw):
        raise _wrong_size(tensor, len(raw), len(raw))
    found = np.empty(count, dtype=object)
    for number in range(count):
        end = at + LENGTH.size
        end += LENGTH.unpack_from(raw, at)[0] if end <= len(raw) else len(raw)
        if end > len(raw):
            raise Invalid(f"input {tensor.name!r}, row {number}: the string reaches beyond the tensor's bytes")
        found[number] = bytes(raw[at + LENGTH.size : end])
        at = end
    if at != len(raw):
        raise Invalid(f"input {tensor.name!r}: {len(raw) - at} bytes are left behind its last string")
    return found


def _wrong_size(tensor: Tensor | _Matrix, size: int | None, left: int) -> Invalid:
    return Invalid(
        f"input {tensor.name!r} has shape {list(tensor.shape)} of {tensor.datatype} and says that it has {size} bytes; "
        f"{left} bytes are there"
    )
