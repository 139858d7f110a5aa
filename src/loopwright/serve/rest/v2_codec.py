"""The Open Inference Protocol V2 in JSON, made to measure for one endpoint: the usual requests without detours.

Two forms of request make up nearly all traffic: one tensor of floats that holds all inputs, and one row with a tensor
per input. For these there are decoders that check names, types, shapes and values in one go. Whatever they refuse goes
to `v2`, which takes every form and says exactly what is wrong. Pure.
"""

from __future__ import annotations

import struct
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from loopwright.core import DType
from loopwright.models import DATATYPES, Output
from loopwright.serve.block import Array, Block
from loopwright.serve.ids import Ids
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant
from loopwright.serve.query import Answer, Batch, Part
from loopwright.serve.rest import v2
from loopwright.serve.rest.json_numbers import SENTINEL, Numbers

_MOST_OPENINGS = 256
ROWS_MARK, VALUES_MARK = "\1", b"\2"  # which no JSON has as they are
_encode = msgspec.json.Encoder().encode
_Number = Literal[
    "FP32", "FP64", "FP16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL"
]
_Known = Literal[_Number, "BYTES"]
_Shape = Annotated[list[Literal[1]], msgspec.Meta(min_length=1, max_length=2)]
_VALUE: dict[DType, Any] = {
    DType.BOOL: bool,
    DType.INT64: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)],
    DType.FLOAT32: float,
    DType.FLOAT64: float,
    DType.STRING: str,
}


class _Matrix(msgspec.Struct, frozen=True, gc=False):
    name: str
    shape: tuple[int, int]
    datatype: _Number
    data: list[float]


class _MatrixRequest(msgspec.Struct, frozen=True, gc=False):
    inputs: tuple[_Matrix]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[v2.RequestedOutput] | None = None


class Codec:
    """Reads requests for one endpoint and writes its answers."""

    def __init__(self, endpoint: LoadedEndpoint) -> None:
        self._intake = endpoint.intake
        self._name = _encode(endpoint.spec.name)
        self._openings: dict[tuple[LoadedVariant, int], list[_Opening]] = {}
        self._templates: dict[LoadedVariant, bytes] = {}
        self._who = {loaded: _who(loaded) for loaded in endpoint.variants}
        self._ends = {loaded: who + b"}}" for loaded, who in self._who.items()}
        self._beginnings = {loaded: self._beginning_of(loaded) for loaded in endpoint.variants}
        self._readers: list[Callable[[bytes], tuple[Any, Rows]]] = [] if self._intake.shaped else [self._read_row]
        if self._intake.floats:
            self._readers.insert(0, self._read_matrix)
        self._numbers = Numbers()
        self._decode_matrix = msgspec.json.Decoder(_MatrixRequest).decode
        self._decode_row: Callable[[bytes], Any] = msgspec.json.Decoder(_row_request(self._intake)).decode

    def read(self, body: bytes) -> tuple[Any, Rows]:
        """The request in a body (with the fields `id`, `parameters` and `outputs`), and its rows.

        Raises:
            Invalid: it is not of the protocol's form, or does not fit the endpoint.
        """
        for number, reader in enumerate(self._readers):
            try:
                found = reader(body)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            if number:  # the next request is probably like this one
                self._readers.insert(0, self._readers.pop(number))
            return found
        request = v2.read_request(body)
        return request, v2.rows_of(request, self._intake)

    def _read_matrix(self, body: bytes) -> tuple[Any, Rows]:
        cut = self._numbers.cut(body)
        if cut is not None:
            request = self._decode_matrix(cut[0])
            if request.inputs[0].data == [SENTINEL]:
                return request, self._block(request.inputs[0].shape, np.frombuffer(cut[1]))
        request = self._decode_matrix(body)
        tensor = request.inputs[0]
        if tensor.shape == (1, len(tensor.data)) == (1, len(self._intake.columns)):
            return request, Block(self._intake.kinds, 1, values=tensor.data)
        packed = struct.pack(f"{len(tensor.data)}d", *tensor.data)  # a third of the time that np.array takes for a list
        return request, self._block(tensor.shape, np.frombuffer(packed))

    def _block(self, shape: tuple[int, int], values: Array) -> Block:
        rows, width = shape
        if rows < 1 or width != len(self._intake.columns) or rows * width != len(values):
            raise ValueError("another shape")
        return Block(self._intake.kinds, rows, matrix=values.reshape(rows, width))

    def _read_row(self, body: bytes) -> tuple[Any, Rows]:
        request = self._decode_row(body)
        return request, [[tensor.data[0] for tensor in request.inputs]]

    def write(self, answer: Answer, request: Any) -> bytes:
        """The response to a request.

        Raises:
            Invalid: the request asks for an output that there is not.
        """
        query = answer.query
        part, ids = query.parts[0], query.given_ids
        batch = part.batch
        if batch is None or ids.__class__ is not Ids or request.outputs or request.id:
            return self._write_any(answer, request)
        is_one_of_many = query.count == 1 and batch.parts > 1
        if is_one_of_many and (texts := batch.notes.get(Codec) or self._note_rows(part.loaded, batch)):
            return self._templates[part.loaded] % (*texts[part.start], ids.digits(part.start))
        return self._write_whole(answer, part, ids)

    def _write_whole(self, answer: Answer, part: Part, ids: Ids) -> bytes:
        """The response with all outputs of rows that one variant has answered, and that are all in the log."""
        pieces = [self._beginnings[part.loaded]]
        outputs = answer.outputs
        for name, opening, is_flat in self._opened(part.loaded, part.count, None):
            values = outputs[name]
            pieces += (opening, _encode(values if is_flat else v2.flat(values)))
        pieces += (b'}],"parameters":{"prediction_ids":', ids.json(part.start, part.count), self._ends[part.loaded])
        return b"".join(pieces)

    def _write_any(self, answer: Answer, request: Any) -> bytes:
        parts, ids = answer.query.parts, answer.ids
        outputs, loaded = answer.outputs, parts[0].loaded
        pieces = [self._beginnings[loaded]]
        for name, opening, is_flat in self._opened(loaded, len(ids), request.outputs):
            values = outputs[name]
            pieces += (opening, _encode(values if is_flat else v2.flat(values)))
        pieces += (b'}],"parameters":{"prediction_ids":', _encode(ids), self._who[loaded])
        if len(parts) > 1:
            pieces += (b',"variants":', _encode(answer.variants), b',"models":', _encode(answer.models))
        pieces += (b'},"id":', _encode(request.id), b"}") if request.id else (b"}}",)
        return b"".join(pieces)

    def _note_rows(self, loaded: LoadedVariant, batch: Batch) -> Sequence[tuple[bytes, ...]]:
        """The values of each row as JSON, made for all rows of a batch of single rows at once; empty for another."""
        if batch.parts != len(batch.rows):
            return ()
        outputs = loaded.predictor.signature.outputs
        if loaded not in self._templates:
            self._templates[loaded] = self._template(loaded)
        columns = [_texts(batch.arrays[output.name], batch.lists[output.name]) for output in outputs]
        texts = batch.notes[Codec] = list(zip(*columns, strict=True))
        return texts

    def _template(self, loaded: LoadedVariant) -> bytes:
        """The response for one row, with places for the values of each output and for the id."""
        pieces = [self._beginnings[loaded]]
        for _, opening, _ in self._opened(loaded, 1, None):
            pieces += (opening, b"[\0]")
        pieces += (b'}],"parameters":{"prediction_ids":["\0"]', self._who[loaded], b"}}")
        return b"".join(pieces).replace(b"%", b"%%").replace(b"\0", b"%b")

    def template(self, loaded: LoadedVariant, outputs: Sequence[Output]) -> bytes:
        """The response for any number of rows with outputs of one number each, with marks: `ROWS_MARK` for how many
        rows there are, and `VALUES_MARK` for the values of each output and then for the ids."""
        pieces = [self._beginnings[loaded]]
        for _, opening, _ in _openings(outputs, ROWS_MARK):
            pieces += (opening, b"[", VALUES_MARK, b"]")
        pieces += (b'}],"parameters":{"prediction_ids":[', VALUES_MARK, b"]", self._who[loaded], b"}}")
        return b"".join(pieces)

    def _beginning_of(self, loaded: LoadedVariant) -> bytes:
        return b'{"model_name":%b,"model_version":"%b","outputs":[' % (self._name, loaded.version.encode())

    def _opened(self, loaded: LoadedVariant, rows: int, requested: list[v2.RequestedOutput] | None) -> list[_Opening]:
        """The outputs to write."""
        if requested:
            return _openings(v2.requested(requested, loaded.predictor.signature.outputs), rows)
        found = self._openings.get((loaded, rows))
        if found is None:
            found = _openings(loaded.predictor.signature.outputs, rows)
            if len(self._openings) < _MOST_OPENINGS:
                self._openings[loaded, rows] = found
        return found


_Opening = tuple[str, bytes, bool]
"""An output's name, what stands before its values, and whether these are one per row."""


def codec_of(endpoint: LoadedEndpoint) -> Codec:
    """The endpoint's own codec, made when it is first asked for."""
    found: Codec | None = endpoint.notes.get(Codec)
    if found is None:
        found = endpoint.notes[Codec] = Codec(endpoint)
    return found


def _openings(outputs: Sequence[Output], rows: int | str) -> list[_Opening]:
    found = []
    for number, output in enumerate(outputs):
        shape = ",".join(map(str, (rows, *output.shape))).encode()
        end = b"}," if number else b""
        opening = b'%b{"name":%b,"datatype":"%b","shape":[%b],"data":' % (
            end,
            _encode(output.name),
            DATATYPES[output.dtype].encode(),
            shape,
        )
        found.append((output.name, opening, not output.shape))
    return found


def _texts(values: Array, listed: list[Any]) -> list[bytes]:
    """The values of each row as JSON, without brackets."""
    if values.ndim == 1 and values.dtype.kind in "fiub":
        return _encode(listed)[1:-1].split(b",")
    return [_encode(v2.flat([value]))[1:-1] for value in listed]


def _who(loaded: LoadedVariant) -> bytes:
    return b',"variant":%b,"model":%b' % (_encode(loaded.variant.name), _encode(loaded.variant.model))


def _row_request(intake: Intake) -> type[msgspec.Struct]:
    """The type of a request with one row, a tensor per input, in the order of the inputs."""
    tensors = []
    for number, column in enumerate(intake.columns):
        value = _VALUE[column.dtype]
        fields = [
            ("name", Literal[column.name]),
            ("shape", _Shape),
            ("datatype", _Known),
            ("data", types.GenericAlias(tuple, (value | None if column.nullable else value,))),
        ]
        tensors.append(msgspec.defstruct(f"Tensor{number}", fields, frozen=True, gc=False))
    return msgspec.defstruct(
        "RowRequest",
        [
            ("inputs", types.GenericAlias(tuple, tuple(tensors))),
            ("id", str, ""),
            ("parameters", dict[str, Any] | None, None),
            ("outputs", list[v2.RequestedOutput] | None, None),
        ],
        frozen=True,
        gc=False,
    )
