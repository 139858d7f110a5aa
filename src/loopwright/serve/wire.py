"""The client's side of the Open Inference Protocol V2 in JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from loopwright.core import KINDS, Invalid, LoopwrightError, Unavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KIND_OF = {kind.http_status: kind for kind in KINDS.values()}
_encode = msgspec.json.Encoder().encode


class ReplyTensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    data: list[Any]


class ReplyParameters(msgspec.Struct, gc=False):
    prediction_ids: list[str] = []
    variant: str = ""
    model: str = ""
    variants: list[str] = []
    models: list[str] = []


class Reply(msgspec.Struct, gc=False):
    """A response to a request to infer."""

    outputs: list[ReplyTensor]
    parameters: ReplyParameters = msgspec.field(default_factory=ReplyParameters)

    def columns(self, rows: int) -> dict[str, list[Any]]:
        """A value per row for each output; a list where the output has several."""
        return {tensor.name: _by_row(tensor, rows) for tensor in self.outputs}


class Encoder:
    """Writes requests for the rows of some columns."""

    def __init__(
        self, columns: Mapping[str, Sequence[Any]], keys: Sequence[str] | None, event_times: Sequence[Any] | None
    ) -> None:
        """Raises:
        Invalid: there is no column, or they, the keys and the times have different lengths.
        """
        if not columns:
            raise Invalid("there are no columns to ask about")
        self._columns = [_plain(values) for values in columns.values()]
        self.rows = len(self._columns[0])
        self._keys = None if keys is None else list(keys)
        self._times = None if event_times is None else [_microseconds(value) for value in event_times]
        lengths = {"keys": self._keys, "event_times": self._times, **dict(zip(columns, self._columns, strict=True))}
        wrong = {
            name: len(values) for name, values in lengths.items() if values is not None and len(values) != self.rows
        }
        if wrong:
            raise Invalid(f"there are {self.rows} rows, but {', '.join(f'{n} {name}' for name, n in wrong.items())}")
        self._openings = _openings(list(columns), self._columns, b"[1]")
        self._all_openings = _openings(list(columns), self._columns, b"[%d]" % self.rows)

    def row(self, number: int, head: bytes) -> bytes:
        """A request for one row; `head` ends before the value of its content-length."""
        parts = [b'{"inputs":[']
        for opening, values in zip(self._openings, self._columns, strict=True):
            parts.append(opening)
            parts.append(_encode(values[number]))
            parts.append(b"]}")
        parts.append(b"]")
        if self._keys is not None or self._times is not None:
            given: dict[str, Any] = {}
            if self._keys is not None:
                given["key"] = self._keys[number]
            if self._times is not None:
                given["event_time"] = self._times[number]
            parts.append(b',"parameters":' + _encode(given))
        parts.append(b"}")
        return _request(head, b"".join(parts))

    def all_rows(self, head: bytes) -> bytes:
        """One request for all rows."""
        tensors = [
            opening + _encode(values)[1:-1] + b"]}"
            for opening, values in zip(self._all_openings, self._columns, strict=True)
        ]
        given = {"key": self._keys, "event_time": self._times}
        parameters = _encode({name: values for name, values in given.items() if values is not None})
        return _request(head, b'{"inputs":[' + b",".join(tensors) + b'],"parameters":' + parameters + b"}")


_decode_reply = msgspec.json.Decoder(Reply).decode


def read_reply(status: int, body: bytes) -> Reply:
    """The reply in a response.

    Raises:
        LoopwrightError: the server's refusal, of the kind that its status tells.
    """
    if status == 200:
        try:
            return _decode_reply(body)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"the server's answer is not of the protocol's form: {error}") from None
    raise refusal(status, body)


def refusal(status: int, body: bytes) -> LoopwrightError:
    """The error that a response tells of."""
    return _KIND_OF.get(status, LoopwrightError)(message_of(status, body))


def message_of(status: int, body: bytes) -> str:
    """What a refusal says."""
    try:
        return str(msgspec.json.decode(body, type=dict[str, Any])["error"])
    except (msgspec.MsgspecError, KeyError):
        return f"the server answered {status}"


def _request(head: bytes, body: bytes) -> bytes:
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)


def _openings(names: list[str], columns: list[Sequence[Any]], shape: bytes) -> list[bytes]:
    """What stands before the values of each tensor."""
    found = []
    for number, (name, values) in enumerate(zip(names, columns, strict=True)):
        comma = b"," if number and shape == b"[1]" else b""
        kind = _datatype(values).encode()
        found.append(b'%b{"name":%b,"shape":%b,"datatype":"%b","data":[' % (comma, _encode(name), shape, kind))
    return found


def _datatype(values: Sequence[Any]) -> str:
    for value in values:
        if value is not None:
            return {bool: "BOOL", int: "INT64", str: "BYTES"}.get(type(value), "FP64")
    return "FP64"


def _plain(values: Sequence[Any]) -> Sequence[Any]:
    """A list of Python's own values, from NumPy, Polars or any sequence."""
    for method in ("to_list", "tolist"):
        if hasattr(values, method):
            listed: list[Any] = getattr(values, method)()
            return listed
    return list(values)


def _microseconds(value: Any) -> int:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Invalid(f"event time {value.isoformat()} has no zone", next_step="use an aware UTC time")
        return (value - _EPOCH) // _MICROSECOND
    return int(value)


def _by_row(tensor: ReplyTensor, rows: int) -> list[Any]:
    width = len(tensor.data) // rows if rows else 1
    if len(tensor.shape) < 2:
        return tensor.data
    return [tensor.data[start : start + width] for start in range(0, len(tensor.data), width)]
