"""The binary tensor extension of the Open Inference Protocol V2: answers with raw bytes behind the JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np

from loopwright.core import DType
from loopwright.models import DATATYPES, Output
from loopwright.serve.block import Array
from loopwright.serve.ids import Ids
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant
from loopwright.serve.query import Answer, Batch
from loopwright.serve.rest import v2
from loopwright.serve.rest.v2_binary import LENGTH, TYPES

_MOST_PLANS = 256
_encode = msgspec.json.Encoder().encode


def wants_binary(request: Any) -> bool:
    """Whether the answer has a tensor in binary form."""
    parameters, outputs = request.parameters, request.outputs
    if parameters is None and not outputs:
        return False
    default = bool(parameters and parameters.get("binary_data_output") is True)
    return any(_is_binary(item, default) for item in outputs) if outputs else default


def chosen(request: Any, outputs: Sequence[Output]) -> dict[str, bool]:
    """Which outputs a request wants in binary form, of those that it asks for."""
    default = bool(request.parameters and request.parameters.get("binary_data_output") is True)
    if request.outputs:
        return {item.name: _is_binary(item, default) for item in request.outputs}
    return {output.name: default for output in outputs}


def _is_binary(output: v2.RequestedOutput, default: bool) -> bool:
    given = output.parameters.get("binary_data") if output.parameters else None
    return default if given is None else given is True


def write_answer(answer: Answer, request: Any, endpoint: LoadedEndpoint) -> tuple[bytes, bytes]:
    """The response to a request, and the header line that tells the length of its JSON.

    Raises:
        Invalid: the request asks for an output that there is not.
    """
    if isinstance(answer.query.given_ids, Ids) and not request.outputs and not request.id:
        found = _write_whole(answer, answer.query.given_ids, endpoint)
        if found is not None:
            return found
    return _write_any(answer, request, endpoint)


class _Plan(msgspec.Struct, frozen=True):
    """The answer for so many rows with all outputs in binary form, in which the ids and the numbers change alone.

    Attributes:
        outputs: each one's name, type, and bytes for a row.
        before, behind: the JSON around the ids.
    """

    outputs: list[tuple[str, str, int]]
    before: bytes
    behind: bytes


def _write_whole(answer: Answer, ids: Ids, endpoint: LoadedEndpoint) -> tuple[bytes, bytes] | None:
    """The response with all outputs in binary form, of rows that one variant has answered and that are in the log; None
    where an output is no number."""
    part = answer.query.parts[0]
    batch, start, count = part.batch, part.start, part.count
    assert batch is not None, "an answered query has been run"
    plans: dict[tuple[LoadedVariant, int], _Plan | None] = endpoint.notes.setdefault(_Plan, {})
    key = part.loaded, count
    if key not in plans:
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plans[key] = _planned(part.loaded, count, endpoint.spec.name)
    plan = plans[key]
    if plan is None:
        return None
    text = b"".join((plan.before, ids.json(start, count), plan.behind))
    tail = [_batch_raw(batch, name, dtype)[start * size : (start + count) * size] for name, dtype, size in plan.outputs]
    return b"".join((text, *tail)), b"inference-header-content-length: %d\r\n" % len(text)


def _planned(loaded: LoadedVariant, count: int, endpoint: str) -> _Plan | None:
    outputs = loaded.predictor.signature.outputs
    if any(output.dtype is DType.STRING for output in outputs):
        return None
    text = template(loaded, count, endpoint, outputs, {output.name: True for output in outputs}, b"\0")
    before, _, behind = text.partition(b"\0")
    return _Plan([(output.name, TYPES[DATATYPES[output.dtype]], _size(output)) for output in outputs], before, behind)


def _size(output: Output) -> int:
    """The bytes of an output's numbers for one row."""
    return np.dtype(TYPES[DATATYPES[output.dtype]]).itemsize * prod(output.shape)


def template(
    loaded: LoadedVariant, count: int, endpoint: str, outputs: Sequence[Output], binary: dict[str, bool], mark: bytes
) -> bytes:
    """The JSON of a response for so many rows, with a mark in place of the values of each output of numbers that is not
    in binary form, and then of the ids."""
    tensors = []
    for output in outputs:
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": DATATYPES[output.dtype],
            "shape": [count, *output.shape],
        }
        if binary[output.name]:
            tensor["parameters"] = {"binary_data_size": _size(output) * count}
        else:
            tensor["data"] = msgspec.Raw(mark)
        tensors.append(tensor)
    by = {"prediction_ids": msgspec.Raw(mark), "variant": loaded.variant.name, "model": loaded.variant.model}
    return _encode({"model_name": endpoint, "model_version": loaded.version, "outputs": tensors, "parameters": by})


def _batch_raw(batch: Batch, name: str, dtype: str) -> bytes:
    """The bytes of an output for all rows of a run."""
    raw: bytes | None = batch.notes.get((_Plan, name))
    if raw is None:
        raw = batch.notes[_Plan, name] = np.ascontiguousarray(batch.arrays[name], dtype=dtype).tobytes()
    return raw


def _write_any(answer: Answer, request: Any, endpoint: LoadedEndpoint) -> tuple[bytes, bytes]:
    """Any response: some outputs or all, in either form."""
    loaded = answer.query.parts[0].loaded
    outputs: Sequence[Output] = loaded.predictor.signature.outputs
    if request.outputs:
        outputs = v2.requested(request.outputs, loaded.predictor.signature.outputs)
    binary = chosen(request, outputs)
    arrays = answer.arrays()
    tensors, tail = [], []
    for output in outputs:
        values = arrays[output.name]
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": DATATYPES[output.dtype],
            "shape": [answer.query.count, *output.shape],
        }
        if binary[output.name]:
            tail.append(raw(values, output))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = v2.flat(values.tolist())
        tensors.append(tensor)
    head = {"model_name": endpoint.spec.name, "model_version": loaded.version, "outputs": tensors}
    text = _encode({**head, "parameters": v2.answered_by(answer), **({"id": request.id} if request.id else {})})
    return b"".join((text, *tail)), b"inference-header-content-length: %d\r\n" % len(text)


def raw(values: Array, output: Output) -> bytes:
    """An output's values in binary form."""
    if output.dtype is not DType.STRING:
        return np.ascontiguousarray(values, dtype=TYPES[DATATYPES[output.dtype]]).tobytes()
    pieces: list[bytes] = []
    for value in values.ravel().tolist():
        text = value if isinstance(value, bytes) else str(value).encode()
        pieces += (LENGTH.pack(len(text)), text)
    return b"".join(pieces)
