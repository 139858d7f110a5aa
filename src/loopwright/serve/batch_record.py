"""One record of the prediction log for a run of a model: its rows in columns, most of them as raw bytes.

A record for a single row (`prediction_log.Record`) begins with its id, a string; this one begins with a small number,
its kind, by which a reader tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np

from loopwright.serve.block import Array, Block, plain_values
from loopwright.serve.intake import Rows
from loopwright.serve.model import Prediction, PredictionStatus

KIND = 2
_ID_BYTES, _ID_DIGITS = 16, 32
_ROWS, _MATRIX, _COLUMNS = "rows", "matrix", "columns"


class By(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who answered; `columns` is the log's key of the inputs' names, of which `dropped` are the places of those that
    the features lack."""

    endpoint: str
    variant: str
    model: str
    rollout: str
    columns: str
    dropped: list[int] = []


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """Values: a NumPy type, the shape of one row's value, and the bytes; or, without a type, a list.

    `kind` is that of a block's column.
    """

    kind: str
    dtype: str
    shape: list[int]
    data: bytes | list[Any]


class BatchRecord(msgspec.Struct, frozen=True, array_like=True, tag=KIND):
    """The rows that one run of a model answered. Fields are only ever added at the end, and there is room for none: the
    kind is found in the second byte, as 16 fields or more would move it. `By` takes what comes to be known later.

    Attributes:
        ids: 16 bytes for each row.
        form: which of the next two holds the features: `rows`: a list for each row; `matrix`: one array [rows, inputs];
            `columns`: an array for each input.
        counts: how many rows each query had; received_at (microseconds since 1970) and latency_us go by query too.
        event_times, keys, shadow_of: by row; empty where no row has one. `shadow_of` has 16 bytes for each.
    """

    by: By
    ids: bytes
    form: str
    rows: list[list[Any]]
    arrays: list[Packed]
    outputs: dict[str, Packed]
    counts: list[int]
    received_at: list[int]
    latency_us: list[int]
    event_times: list[int] = []
    keys: list[str] = []
    status: PredictionStatus = PredictionStatus.OK
    error: str = ""
    shadow_of: bytes = b""

    def __len__(self) -> int:
        return len(self.ids) // _ID_BYTES


def digits(ids: bytes) -> list[str]:
    """Ids of 16 bytes each as they are written."""
    text = ids.hex()
    return [text[start : start + _ID_DIGITS] for start in range(0, len(text), _ID_DIGITS)]


def pack_features(rows: Rows) -> tuple[str, list[list[Any]], list[Packed]]:
    """A batch's features: their form, and what the record holds of them, as rows or as arrays."""
    if not isinstance(rows, Block):
        return _ROWS, rows, []
    if rows.count == 1 and rows.values is not None:
        return _ROWS, [rows.values], []
    if rows.is_matrix:
        return _MATRIX, [], [_packed(rows.matrix, "f")]
    pairs = zip(rows.columns, rows.kinds, strict=True)
    return _COLUMNS, [], [_packed(column, kind) for column, kind in pairs if column is not None]


def pack_outputs(arrays: dict[str, Array]) -> dict[str, Packed]:
    """A batch's outputs."""
    return {name: _packed(values, values.dtype.kind) for name, values in arrays.items()}


def matrix_record(
    by: By,
    ids: bytes,
    block: Block,
    arrays: dict[str, Array],
    counts: list[int],
    received_at: list[int],
    latency_us: list[int],
) -> BatchRecord:
    """The record of good answers to rows in one matrix."""
    features = [_packed(block.matrix, "f")]
    return BatchRecord(by, ids, _MATRIX, [], features, pack_outputs(arrays), counts, received_at, latency_us)


def predictions_of(record: BatchRecord, names: tuple[str, ...]) -> list[Prediction]:
    """The rows of a record.

    Args:
        names: of its inputs.
    """
    by, rows = record.by, len(record)
    if by.dropped:
        names = tuple(name for at, name in enumerate(names) if at not in by.dropped)
    received = _spread(record.received_at, record.counts)
    outputs = {name: _values(packed) for name, packed in record.outputs.items()}
    columns = zip(
        digits(record.ids),
        record.event_times or received,
        received,
        record.keys or [""] * rows,
        _feature_rows(record, rows),
        _spread(record.latency_us, record.counts),
        digits(record.shadow_of) or [""] * rows,
        strict=True,
    )
    return [
        Prediction(
            identifier, by.endpoint, by.variant, by.model, event_time, received_at, key, names, features,
            {name: values[number] for name, values in outputs.items()},
            latency_us, record.status, shadow_of, by.rollout, record.error,
        )
        for number, (identifier, event_time, received_at, key, features, latency_us, shadow_of) in enumerate(columns)
    ]  # fmt: skip


def _packed(values: Array, kind: str) -> Packed:
    dtype = _NAMES.get(values.dtype, "")
    if not dtype and values.dtype.kind not in "OSU":
        dtype = values.dtype.str
    shape = list(values.shape[1:]) if values.ndim > 1 else []
    return Packed(kind, dtype, shape, values.tobytes() if dtype else values.tolist())


_NAMES = {np.dtype(name): name for name in ("<f4", "<f8", "<i8", "<i4", "|b1")}  # which NumPy spells anew each time


def _array(packed: Packed) -> Array:
    assert isinstance(packed.data, bytes), "values with a type are bytes"
    return np.frombuffer(packed.data, dtype=packed.dtype).reshape(-1, *packed.shape)


def _values(packed: Packed) -> list[Any]:
    """A value per row, as Python's own."""
    return packed.data if isinstance(packed.data, list) else list(_array(packed).tolist())


def _feature_rows(record: BatchRecord, rows: int) -> list[list[Any]]:
    if record.form == _ROWS:
        return record.rows
    if record.form == _MATRIX:
        matrix = _array(record.arrays[0])
        return Block("f" * matrix.shape[1], rows, matrix=matrix).rows()
    listed = [_column_values(packed) for packed in record.arrays]
    return [list(row) for row in zip(*listed, strict=True)] if listed else [[]] * rows


def _column_values(packed: Packed) -> list[Any]:
    return packed.data if isinstance(packed.data, list) else plain_values(_array(packed), packed.kind)


def _spread(values: Sequence[int], counts: Sequence[int]) -> list[int]:
    return list(chain.from_iterable(map(repeat, values, counts)))
