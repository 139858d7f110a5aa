"""The logical digest of rows: the same values give the same digest, however they were batched, encoded or compressed.

Each column is hashed on its own (BLAKE3): the positions of its nulls, and its values in order, with fixed-width
values as little-endian bytes and values of varying length as their lengths and their bytes. The part's digest is
the digest of the column digests, the schema and the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core import digest_value

if TYPE_CHECKING:
    import polars as pl

FORMAT = "loopwright-table-1"


class PartDigest:
    """The digest of one part: rows that arrive in batches, in order."""

    def __init__(self, columns: Mapping[str, pl.DataType]) -> None:
        from loopwright.data.dtypes import dump_dtypes

        self._schema = dump_dtypes(columns)
        self._columns = {name: _hasher(dtype) for name, dtype in columns.items()}
        self.rows = 0
        self.size_bytes = 0

    def update(self, frame: pl.DataFrame) -> None:
        """Take the next batch, whose columns have the part's types."""
        for name, hasher in self._columns.items():
            hasher.update(frame.get_column(name))
        self.rows += frame.height
        self.size_bytes += int(frame.estimated_size())

    def digest(self) -> str:
        """The digest of all that was taken so far."""
        columns = {name: hasher.digests() for name, hasher in self._columns.items()}
        return digest_value({"format": FORMAT, "schema": self._schema, "rows": self.rows, "columns": columns})


def chain(before: str, part_digest: str) -> str:
    """The digest of a table's version: of the version it was appended to (empty if to none) and of the part it adds."""
    return digest_value({"format": FORMAT, "before": before, "part": part_digest})


class _Nulls:
    """Hashes the positions of nulls, counted from the first row of the part."""

    def __init__(self) -> None:
        from blake3 import blake3

        self._hash = blake3()
        self._seen = 0

    def update(self, series: pl.Series) -> None:
        import numpy as np

        if series.null_count():
            positions = np.flatnonzero(series.is_null().to_numpy()).astype("<u8")
            self._hash.update((positions + np.uint64(self._seen)).tobytes())
        self._seen += len(series)

    def digest(self) -> str:
        return str(self._hash.hexdigest())


class _Fixed:
    def __init__(self, dtype: pl.DataType) -> None:
        from blake3 import blake3

        self._nulls, self._hash, self._is_float = _Nulls(), blake3(), dtype.is_float()

    def update(self, series: pl.Series) -> None:
        import numpy as np
        import polars as pl

        self._nulls.update(series)
        physical = series.cast(pl.UInt8) if series.dtype == pl.Boolean else series.to_physical()
        if physical.null_count():
            physical = physical.fill_null(0)
        values = np.ascontiguousarray(physical.to_numpy())
        if self._is_float and np.isnan(values).any():
            values = np.where(np.isnan(values), np.array(np.nan, dtype=values.dtype), values)
        self._hash.update(values.tobytes())

    def digests(self) -> Any:
        return [self._nulls.digest(), str(self._hash.hexdigest())]


class _Bytes:
    """Text, bytes, and what is hashed as text (decimals)."""

    def __init__(self) -> None:
        from blake3 import blake3

        self._nulls, self._lengths, self._hash = _Nulls(), blake3(), blake3()

    def update(self, series: pl.Series) -> None:
        import polars as pl

        self._nulls.update(series)
        if series.dtype == pl.Binary:
            filled = series.fill_null(b"") if series.null_count() else series
            lengths, joined = filled.bin.size(), b"".join(filled.to_list())
        else:
            text = series if series.dtype == pl.String else series.cast(pl.String)
            filled = text.fill_null("") if text.null_count() else text
            lengths, joined = filled.str.len_bytes(), (filled.str.join("").item() or "").encode()
        self._lengths.update(lengths.cast(pl.UInt64).to_numpy().astype("<u8").tobytes())
        self._hash.update(joined)

    def digests(self) -> Any:
        return [self._nulls.digest(), str(self._lengths.hexdigest()), str(self._hash.hexdigest())]


class _List:
    def __init__(self, inner: pl.DataType) -> None:
        from blake3 import blake3

        self._nulls, self._lengths, self._inner = _Nulls(), blake3(), _hasher(inner)

    def update(self, series: pl.Series) -> None:
        import polars as pl

        self._nulls.update(series)
        lengths = series.list.len().fill_null(0).cast(pl.UInt64)
        self._lengths.update(lengths.to_numpy().astype("<u8").tobytes())
        filled = series.drop_nulls()
        self._inner.update(filled.filter(filled.list.len() > 0).explode())

    def digests(self) -> Any:
        return [self._nulls.digest(), str(self._lengths.hexdigest()), self._inner.digests()]


class _Struct:
    def __init__(self, dtype: pl.Struct) -> None:
        self._nulls = _Nulls()
        self._fields = {field.name: _hasher(field.dtype) for field in dtype.fields}

    def update(self, series: pl.Series) -> None:
        self._nulls.update(series)
        for name, hasher in self._fields.items():
            hasher.update(series.struct.field(name))

    def digests(self) -> Any:
        return [self._nulls.digest(), {name: hasher.digests() for name, hasher in self._fields.items()}]


def _hasher(dtype: Any) -> _Fixed | _Bytes | _List | _Struct:
    import polars as pl

    if isinstance(dtype, type):
        dtype = dtype()
    if isinstance(dtype, pl.List):
        return _List(dtype.inner)  # type: ignore[arg-type]  # a class or an instance; both are taken
    if isinstance(dtype, pl.Struct):
        return _Struct(dtype)
    if dtype in (pl.String, pl.Binary) or dtype.is_decimal():
        return _Bytes()
    return _Fixed(dtype)
