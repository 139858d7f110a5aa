"""The Open Inference Protocol V2 in JSON: requests into rows, answers into responses. Pure.

https://github.com/kserve/open-inference-protocol, `specification/protocol/inference_rest.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from math import prod
from typing import Any

import msgspec

from loopwright.core import Invalid, LoopwrightError
from loopwright.models import Output
from loopwright.serve.column import ABSENT
from loopwright.serve.intake import Intake, Row, Rows
from loopwright.serve.query import Answer
from loopwright.serve.shaped import array_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS = frozenset(
    {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BOOL"}
)
_DATATYPES = _NUMBERS | {"BYTES"}
_ONE = ([1], [1, 1])
_LAST_MICROSECOND = 253_402_300_800_000_000  # the year 10000


class InputTensor(msgspec.Struct, frozen=True, gc=False):
    """A tensor of a request; its first dimension is the row."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


_NOT_OFFERED = ("classification", "shared_memory_region")  # Triton's; left unheeded, a client would read wrong bytes


class RequestedOutput(msgspec.Struct, frozen=True, gc=False):
    """An output that is asked for. `binary_data` among its parameters chooses its form."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, frozen=True, gc=False):
    """A request to infer.

    Of `parameters`, `key` and `event_time` are ours: one value for all rows, or a list with one for each.
    """

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


_decode = msgspec.json.Decoder(InferRequest).decode
_encode = msgspec.json.Encoder().encode


def read_request(body: bytes) -> InferRequest:
    """The request in a body.

    Raises:
        Invalid: it is no JSON, or not of the protocol's form; the field is named.
    """
    try:
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        hint = "write a missing value as null; JSON has no NaN" if b"NaN" in body[:100_000] else ""
        raise Invalid(f"the request is not of the protocol's form: {error}", next_step=hint) from None


def rows_of(request: InferRequest, intake: Intake) -> Rows:
    """The request's rows in the order of an endpoint's inputs.

    Either one tensor per input, of shape [rows], [rows, 1] or, where the input has a shape, [rows, *shape]; or one
    tensor of shape [rows, inputs] that holds all.

    Raises:
        Invalid: a tensor or value does not fit; the tensor and the row are named.
    """
    tensors = request.inputs
    if not tensors:
        raise Invalid("the request has no inputs", next_step=f"the model takes {', '.join(intake.names)}")
    if intake.shaped:
        arrays = {tensor.name: array_of(values_of(tensor), tensor.shape) for tensor in tensors}
        if len(arrays) < len(tensors):
            raise Invalid("an input is in the request twice")
        return intake.block(arrays)
    row = _single_row(tensors, intake)
    if row is not None:
        return [row]
    first = tensors[0]
    if len(tensors) == 1 and len(first.shape) == 2 and (first.shape[1] != 1 or first.name not in intake.positions):
        return intake.rows_of_matrix(first.name, values_of(first), first.shape[1])
    rows = first.shape[0] if first.shape else 0
    columns = []
    for tensor in tensors:
        shape = tensor.shape
        if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
            raise Invalid(f"input {tensor.name!r} has shape {shape}; a column has shape [{rows}] or [{rows}, 1]")
        columns.append((tensor.name, values_of(tensor)))
    return intake.rows(columns)


def _single_row(tensors: list[InputTensor], intake: Intake) -> Row | None:
    """The row of a request with one value per input, which is what most requests are; None for any other."""
    positions, columns = intake.positions, intake.columns
    if len(tensors) != len(columns):
        return None
    row: Row = [ABSENT] * len(columns)
    for tensor in tensors:
        data, position = tensor.data, positions.get(tensor.name)
        if position is None or tensor.shape not in _ONE or len(data) != 1 or tensor.datatype not in _DATATYPES:
            return None
        value = data[0]
        column = columns[position]
        row[position] = value if value.__class__ in column.plain else column.check(value, 0)
    return None if ABSENT in row else row


def values_of(tensor: InputTensor) -> list[Any]:
    """The tensor's values, flat, as many as its shape says."""
    shape, data = tensor.shape, tensor.data
    if tensor.datatype not in _DATATYPES:
        raise Invalid(
            f"input {tensor.name!r} has datatype {tensor.datatype!r}, which the protocol does not know",
            next_step=f"use one of {', '.join(sorted(_DATATYPES))}",
        )
    if data and data[0].__class__ is list:
        data = flat(data)
    if not shape or min(shape) < 0 or prod(shape) != len(data):
        raise Invalid(f"input {tensor.name!r} has shape {shape} and {len(data)} values")
    if not data:
        raise Invalid(f"input {tensor.name!r} has no rows")
    return data


def flat(data: list[Any]) -> list[Any]:
    while data and any(item.__class__ is list for item in data):
        data = list(chain.from_iterable(item if item.__class__ is list else [item] for item in data))
    return data


def keys_of(request: InferRequest, count: int) -> list[str] | None:
    """What each row is assigned by; None where the request says nothing.

    Raises:
        Invalid: `key` is neither a string or number nor a list with one for each row.
    """
    given = request.parameters.get("key") if request.parameters else None
    if given is None:
        return None
    if given.__class__ is str:
        return [given] * count
    listed = _per_row("key", given, count)
    if not all(item.__class__ in (str, int) for item in listed):
        raise Invalid("parameter 'key' takes strings or whole numbers")
    return [str(item) for item in listed]


def event_times_of(request: InferRequest, count: int) -> list[int] | None:
    """When each row happened, in microseconds since 1970; None where the request says nothing.

    Raises:
        Invalid: `event_time` is neither microseconds nor an ISO 8601 time with its zone, nor a list with one per row.
    """
    given = request.parameters.get("event_time") if request.parameters else None
    if given is None:
        return None
    return [_microseconds(item) for item in _per_row("event_time", given, count)]


def _per_row(name: str, given: Any, count: int) -> Sequence[Any]:
    if given.__class__ is not list:
        return [given] * count
    if len(given) != count:
        raise Invalid(f"parameter {name!r} has {len(given)} values for {count} rows")
    return list(given)


def _microseconds(given: Any) -> int:
    if given.__class__ is int and abs(given) < _LAST_MICROSECOND:
        return int(given)
    try:
        moment = datetime.fromisoformat(given)
    except (ValueError, TypeError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Invalid(
            f"parameter 'event_time' is {str(given)[:60] if given.__class__ is not int else 'out of range'!r}",
            next_step="give microseconds since 1970, or an ISO 8601 time with its zone, such as 2013-07-01T12:00:00Z",
        )
    return (moment - _EPOCH) // _MICROSECOND


def deadline_of(request: InferRequest, started_ns: int) -> int:
    """Until when the caller waits, on the monotonic clock, by the parameter `timeout` in microseconds; 0 for no limit.

    Raises:
        Invalid: it is no number of microseconds.
    """
    given = request.parameters.get("timeout") if request.parameters else None
    if given is None or given == 0:
        return 0
    if given.__class__ is not int or not 0 < given < _LAST_MICROSECOND:
        raise Invalid(f"parameter 'timeout' is {str(given)[:60]!r}", next_step="give microseconds, as a whole number")
    return started_ns + 1000 * int(given)


def answered_by(answer: Answer) -> dict[str, Any]:
    """Our parameters of a response: the predictions' ids, and who answered."""
    variants, models = answer.variants, answer.models
    told = {"prediction_ids": answer.ids, "variant": variants[0], "model": models[0]}
    if len(answer.query.parts) > 1:
        told |= {"variants": variants, "models": models}
    return told


def requested(wanted: Collection[Any], outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    """The outputs that a request asks for, in its order.

    Args:
        wanted: with a name and parameters each, of HTTP or gRPC.

    Raises:
        Invalid: the model does not give one, or it is asked for in a form that is not offered.
    """
    known = {output.name: output for output in outputs}
    for item in wanted:
        if item.name not in known:
            raise Invalid(f"there is no output {item.name!r}", next_step=f"the model gives {', '.join(known)}")
        for form in _NOT_OFFERED:
            if item.parameters and form in item.parameters:
                raise Invalid(f"output {item.name!r}: {form!r} is not offered here", next_step="ask for the tensor")
    return tuple(known[item.name] for item in wanted)


def refusal(error: LoopwrightError) -> bytes:
    """An error as the protocol tells it."""
    return _encode({"error": str(error)})
