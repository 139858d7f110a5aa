"""Columns of numbers as PostgreSQL's binary arrays: its driver would write each number as text."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import Connection

_TEXT, _BIGINT, _BIGINTS, _FLOAT8, _FLOAT8S = 25, 20, 1016, 701, 1022  # PostgreSQL's numbers of these types
_HEADER = struct.Struct(">iiiii")  # dimensions, whether there are NULLs, the elements' type, length, first index
_CELL = np.dtype([("size", ">i4"), ("value", ">i8")])
_FEW = 16
_NULL = b"\xff\xff\xff\xff"
_KNOWN = "loopwright_arrays"


class BigInts:
    """An array of bigint in PostgreSQL's binary form."""

    def __init__(self, column: Sequence[float | None]) -> None:
        header = _HEADER.pack(1, 0, _BIGINT, len(column), 1)
        if len(column) < _FEW:  # where numpy takes longer to begin than to do it
            self.data = header + b"".join([struct.pack(">iq", 8, number) for number in column])
            return
        cells = np.empty(len(column), _CELL)
        cells["size"], cells["value"] = 8, column
        self.data = header + cells.tobytes()


class Floats:
    """An array of float8 in PostgreSQL's binary form; None becomes NULL."""

    def __init__(self, column: Sequence[float | None]) -> None:
        packed = [_NULL if item is None else struct.pack(">id", 8, item) for item in column]
        self.data = _HEADER.pack(1, int(None in column), _FLOAT8, len(column), 1) + b"".join(packed)


class Texts:
    """An array of text in PostgreSQL's binary form."""

    def __init__(self, column: Sequence[str]) -> None:
        encoded = [text.encode() for text in column]
        cells = [part for text in encoded for part in (struct.pack(">i", len(text)), text)]
        self.data = _HEADER.pack(1, 0, _TEXT, len(column), 1) + b"".join(cells)


def binary_arrays(tx: Connection, rows: Sequence[Sequence[float | None]]) -> tuple[BigInts | Floats, ...]:
    """The columns of rows, for a statement of this connection: bigints where all are whole, else floats."""
    _teach(tx)
    return tuple(
        BigInts(column) if all(type(item) is int for item in column) else Floats(column)
        for column in zip(*rows, strict=True)
    )


def _teach(tx: Connection) -> None:
    if _KNOWN not in tx.info:
        adapters: Any = tx.connection.driver_connection
        for kind, dumper in _dumpers().items():
            adapters.adapters.register_dumper(kind, dumper)
        tx.info[_KNOWN] = True


@cache
def _dumpers() -> dict[type, Any]:
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class BigIntsDumper(Dumper):
        format, oid = Format.BINARY, _BIGINTS

        def dump(self, obj: BigInts) -> bytes:
            return obj.data

    class FloatsDumper(Dumper):
        format, oid = Format.BINARY, _FLOAT8S

        def dump(self, obj: Floats) -> bytes:
            return obj.data

    return {BigInts: BigIntsDumper, Floats: FloatsDumper}
