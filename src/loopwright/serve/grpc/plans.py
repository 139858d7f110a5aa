"""Requests to infer without detours: bytes that were seen before are not read again, and answers are written by hand.

A request to infer ends with its raw tensors, and what stands before them (model, names, shapes, wanted outputs) is the
same from one request to the next. For the two usual forms, one tensor of floats that holds all inputs and one row with
a tensor per input, a plan remembers what those bytes mean. Whatever has no plan goes through protobuf, which takes
every form and says exactly what is wrong. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from loopwright.models import DATATYPES
from loopwright.serve.block import Block
from loopwright.serve.grpc.protos import messages
from loopwright.serve.grpc.tensors import CODES, outputs_of
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant
from loopwright.serve.query import Answer, Batch

_RAW_IN, _RAW_OUT, _PARAMETER, _VALUE, _STRING = b"\x3a", b"\x32", b"\x22", b"\x12", b"\x1a"
_FLOATS = {"FP32": "f", "FP64": "d"}
_MOST_PLANS, _MOST_BYTES = 256, 4096  # plans, and bytes before the tensors


class Plan:
    """What the bytes before the raw tensors mean for one endpoint.

    Attributes:
        request: read from those bytes, so without the tensors.
    """

    __slots__ = ("_columns", "_dtype", "_forms", "_intake", "_name", "_unpack", "count", "endpoint", "request", "start")

    def __init__(self, endpoint: LoadedEndpoint, request: Any, start: int, count: int, columns: int) -> None:
        """Args:
        start: where the tensors begin: the only one itself, or the head of the first of several.
        count: of rows.
        columns: how many tensors there are, where each holds one input of one row; 0 for one that holds all.
        """
        self.endpoint, self.request, self.start, self.count = endpoint, request, start, count
        self._intake: Intake = endpoint.intake
        tensor = request.inputs[0]
        self._name, code = tensor.name, _FLOATS[tensor.datatype]
        self._columns, self._dtype = columns, np.dtype(f"<{code}")
        width = len(self._intake.columns)
        self._unpack = struct.Struct(f"<{f'xx{code}' * columns}" if columns else f"<{width}{code}").unpack_from
        self._forms: dict[LoadedVariant, _Form | None] = {}

    def rows(self, data: bytes) -> Rows | None:
        """The rows of a request that begins with these bytes; None where protobuf has to tell what is wrong."""
        if self.count > 1:
            matrix = np.frombuffer(data, self._dtype, offset=self.start).reshape(self.count, -1)
            return self._intake.block_of_matrix(self._name, matrix)
        if self._columns and not self._heads_are_right(data):
            return None
        values = list(self._unpack(data, self.start))
        return Block(self._intake.kinds, 1, values=values) if isfinite(sum(values)) else None

    def _heads_are_right(self, data: bytes) -> bool:
        """Whether each tensor has the head that it ought to have."""
        size, count = self._dtype.itemsize, self._columns
        tail = data[self.start :]
        return tail[:: size + 2] == _RAW_IN * count and tail[1 :: size + 2] == bytes((size,)) * count

    def write(self, answer: Answer) -> bytes | None:
        """The response as bytes; None for one that protobuf has to write."""
        parts = answer.query.parts
        part = parts[0]
        batch = part.batch
        if len(parts) > 1 or batch is None:
            return None
        loaded = part.loaded
        if loaded not in self._forms:
            self._forms[loaded] = _form(self, loaded)
        form = self._forms[loaded]
        return None if form is None else form.write(batch, part.start, answer.ids)


class Plans:
    """The plans of late, by the bytes that they stand for."""

    def __init__(self) -> None:
        self._starts: dict[int, list[int]] = {}  # by the length of a request
        self._known: dict[tuple[int, bytes], Plan] = {}

    def find(self, data: bytes) -> Plan | None:
        """The plan for a request."""
        size = len(data)
        for start in self._starts.get(size, ()):
            plan = self._known.get((size, data[:start]))
            if plan is not None:
                return plan
        return None

    def learn(self, data: bytes, request: Any, endpoint: LoadedEndpoint) -> None:
        """Remember a request that was found to be right, if it is one of those that plans are for."""
        raw, intake = request.raw_input_contents, endpoint.intake
        if not raw or request.id or request.parameters or not intake.floats or intake.shaped:
            return
        tail = b"".join(_head(_RAW_IN, len(item)) + item for item in raw)
        before = len(data) - len(tail)
        first = type(request)()
        if before > _MOST_BYTES or not data.endswith(tail) or not _is_whole(first, data[:before]):
            return
        found = _layout(request, intake)
        if found is None:
            return
        count, columns = found
        start = before if columns else len(data) - len(raw[0])
        if len(self._known) >= _MOST_PLANS:
            self._starts.clear()
            self._known.clear()
        self._known[len(data), data[:start]] = Plan(endpoint, first, start, count, columns)
        starts = self._starts.setdefault(len(data), [])
        if start not in starts:
            starts.append(start)


def _is_whole(message: Any, data: bytes) -> bool:
    """Whether some bytes are a request without tensors; the message has it then."""
    message.ParseFromString(data)
    return not message.raw_input_contents


def _layout(request: Any, intake: Intake) -> tuple[int, int] | None:
    """How many rows a request has, and in how many tensors each is; 0 for one tensor; None for any other form."""
    tensors, names = request.inputs, intake.names
    shape, kinds = list(tensors[0].shape), {tensor.datatype for tensor in tensors}
    if len(kinds) > 1 or not kinds <= _FLOATS.keys():
        return None
    if len(tensors) == 1 and len(shape) == 2 and shape[1] == len(names):
        return shape[0], 0
    if [tensor.name for tensor in tensors] != list(names):
        return None
    if all(list(tensor.shape) in ([1], [1, 1]) for tensor in tensors):
        return 1, len(names)
    return None


class _Form:
    """A response, but for what is new in each: the predictions' ids and the values."""

    __slots__ = ("_count", "_head", "_outputs")

    def __init__(self, head: bytes, count: int, outputs: Sequence[tuple[str, str, int]]) -> None:
        self._head, self._count = head, count
        self._outputs = [(name, code, size, _head(_RAW_OUT, size * count)) for name, code, size in outputs]

    def write(self, batch: Batch, start: int, ids: Sequence[str]) -> bytes | None:
        pieces = [self._head, parameter(b"prediction_ids", ",".join(ids).encode())]
        for name, code, size, head in self._outputs:
            raw = batch.notes.get((_Form, name))
            if raw is None:  # once for all that the batch answers
                values = batch.arrays[name]
                raw = values.astype(code, copy=False).tobytes()
                if len(raw) != size * len(values):
                    return None
                batch.notes[_Form, name] = raw
            pieces += (head, raw[start * size : (start + self._count) * size])
        return b"".join(pieces)


def _form(plan: Plan, loaded: LoadedVariant) -> _Form | None:
    """How one variant answers; None where an output has strings, or a size that is not known beforehand."""
    outputs = outputs_of(plan.request, loaded)
    if any(CODES[DATATYPES[item.dtype]] == "" or min(item.shape, default=1) < 0 for item in outputs):
        return None
    names = {"model_name": plan.endpoint.spec.name, "model_version": loaded.version}
    response = messages("inference.proto")["ModelInferResponse"](**names)
    sizes = []
    for item in outputs:
        datatype = DATATYPES[item.dtype]
        response.outputs.add(name=item.name, datatype=datatype, shape=[plan.count, *item.shape])
        code = f"<{CODES[datatype]}"
        sizes.append((item.name, code, struct.calcsize(code) * prod(item.shape)))
    who = parameter(b"variant", loaded.variant.name.encode()) + parameter(b"model", loaded.variant.model.encode())
    return _Form(response.SerializeToString() + who, plan.count, sizes)


def parameter(name: bytes, text: bytes) -> bytes:
    """A parameter of a response, whose value is a string."""
    value = _head(_STRING, len(text)) + text
    entry = _head(b"\x0a", len(name)) + name + _head(_VALUE, len(value)) + value
    return _head(_PARAMETER, len(entry)) + entry


def wrapped(response: bytes) -> bytes:
    """A response as one of a stream (`ModelStreamInferResponse.infer_response`)."""
    return _head(b"\x12", len(response)) + response


def _head(tag: bytes, size: int) -> bytes:
    """What stands before a field: its number and kind, and its length in groups of seven bits."""
    if size < 128:
        return tag + bytes((size,))
    found = bytearray(tag)
    while size >= 128:
        found.append(size & 127 | 128)
        size >>= 7
    found.append(size)
    return bytes(found)
