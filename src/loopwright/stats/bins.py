"""Windows of live traffic, counted into bins that the training profile sets: fixed memory, exact merging.

A profile does not know its columns beforehand, so it keeps quantile sketches. A window does: it is only ever compared
with the profile. Counting into the profile's own quantiles costs 20 ns a value, adds no error of its own, and two
windows add up exactly.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, Invalid
from loopwright.stats.sketches import ColumnKind, ColumnSketch, TableSketch
from loopwright.stats.values import count_texts, numbers_of
from loopwright.stats.wire import inflate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAGIC = b"LWBN1"
NUMERIC_EDGES = 64
CATEGORIES = 100


class BinnedColumn:
    """How often a column's values fell into each bin.

    Numeric: bin i holds e[i-1] < x <= e[i] with `edges` e, the last one all above. Categorical: a bin for each of
    `values`, the last one for all others.
    """

    __slots__ = ("_places", "counts", "edges", "kind", "nulls", "total", "values")

    def __init__(self, kind: ColumnKind | str, edges: NDArray[np.float32], values: tuple[str, ...]) -> None:
        import numpy as np

        self.kind = ColumnKind(kind)
        self.edges = edges
        self.values = values
        self.counts: NDArray[np.int64] = np.zeros(1 + (len(edges) if self.is_numeric else len(values)), np.int64)
        self.nulls = 0
        self.total = 0.0
        self._places = {value: place for place, value in enumerate(values)}

    @classmethod
    def like(cls, reference: ColumnSketch) -> BinnedColumn:
        """An empty column with the bins of a reference: its quantiles, or its most frequent values."""
        import numpy as np

        if reference.kind is ColumnKind.CATEGORICAL:
            return cls(reference.kind, np.empty(0, np.float32), tuple(value for value, _ in reference.top(CATEGORIES)))
        if not reference.count:
            return cls(reference.kind, np.zeros(1, np.float32), ())
        shares = np.linspace(0, 1, NUMERIC_EDGES + 1)[1:-1]
        middle = reference.quantiles(shares).astype(np.float32)
        ends = np.array([reference.min, reference.max], dtype=np.float32)
        return cls(reference.kind, np.unique(np.concatenate([ends[np.isfinite(ends)], middle])), ())

    @property
    def is_numeric(self) -> bool:
        """Whether the bins are ranges of numbers."""
        return self.kind is ColumnKind.NUMERIC

    @property
    def count(self) -> int:
        """How many values that are not null."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """The mean of a numeric column; NaN where there is no value."""
        return self.total / self.count if self.is_numeric and self.count else math.nan

    def update(self, values: NDArray[Any] | Sequence[Any], nulls: int = 0) -> None:
        """Add values; None and NaN count as null.

        Raises:
            Invalid: the column is numeric and a value is no number.
        """
        import numpy as np

        if not self.is_numeric:
            counts, found = count_texts(values)
            for value, count in counts.items():
                self.counts[self._places.get(value, -1)] += count
        else:
            numbers, found = numbers_of(values)
            with np.errstate(over="ignore"):  # what no 32-bit float reaches is in the outermost bin
                single = numbers.astype(np.float32)
                self.total += float(numbers.sum(dtype=np.float64))
            self.counts += np.bincount(np.searchsorted(self.edges, single), minlength=len(self.counts))
        self.nulls += nulls + found

    def merge(self, other: BinnedColumn) -> BinnedColumn:
        """The counts of both, exactly; neither operand changes.

        Raises:
            Invalid: their bins differ.
        """
        import numpy as np

        if self.kind is not other.kind or self.values != other.values or not np.array_equal(self.edges, other.edges):
            raise Invalid("columns with different bins cannot be merged", next_step="count both into the same profile")
        merged = BinnedColumn(self.kind, self.edges, self.values)
        merged.counts = self.counts + other.counts
        merged.nulls = self.nulls + other.nulls
        merged.total = self.total + other.total
        return merged

    def ranks(self) -> NDArray[np.float64]:
        """The share of a numeric column's values at or below each edge."""
        import numpy as np

        count = self.count
        return np.cumsum(self.counts[:-1]) / count if count else np.zeros(len(self.edges))


class BinnedTable:
    """The binned columns of a window, by name."""

    __slots__ = ("columns", "rows")

    def __init__(self, columns: dict[str, BinnedColumn], rows: int = 0) -> None:
        self.columns = columns
        self.rows = rows

    @classmethod
    def like(cls, reference: TableSketch, names: Sequence[str] | None = None) -> BinnedTable:
        """An empty window with the bins of a profile, of all its columns or of some."""
        wanted = reference.columns if names is None else [name for name in names if name in reference.columns]
        return cls({name: BinnedColumn.like(reference.columns[name]) for name in wanted})

    def fold(self, columns: Mapping[str, NDArray[Any] | Sequence[Any]]) -> None:
        """Add rows, given as columns of equal length. Columns that the profile does not have are passed over.

        Raises:
            Invalid: a column is numeric and a value is no number.
        """
        for name, values in columns.items():
            if name in self.columns:
                self.columns[name].update(values)
        self.rows += max((len(values) for values in columns.values()), default=0)

    def merge(self, other: BinnedTable) -> BinnedTable:
        """The counts of both windows, exactly.

        Raises:
            Invalid: they are binned by different profiles.
        """
        if self.columns.keys() != other.columns.keys():
            raise Invalid("windows with different columns cannot be merged")
        merged = {name: column.merge(other.columns[name]) for name, column in self.columns.items()}
        return BinnedTable(merged, self.rows + other.rows)

    def to_bytes(self) -> bytes:
        """The window as bytes, bins included."""
        body = {name: _pack(column) for name, column in self.columns.items()}
        return _MAGIC + zlib.compress(msgspec.msgpack.encode((self.rows, body)), level=1)

    @classmethod
    def from_bytes(cls, data: bytes) -> BinnedTable:
        """The window that `to_bytes` wrote.

        Raises:
            Corrupt: the bytes are no window.
        """
        if not data.startswith(_MAGIC):
            raise Corrupt(f"{len(data)} bytes that should be a window do not start with {_MAGIC!r}")
        try:
            rows, body = msgspec.msgpack.decode(inflate(data[len(_MAGIC) :]), type=tuple[int, dict[str, _Packed]])
            return cls({name: _unpack(packed) for name, packed in body.items()}, rows)
        except (zlib.error, msgspec.DecodeError, ValueError) as error:
            raise Corrupt(f"a window of {len(data)} bytes cannot be read: {error}") from None


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    edges: bytes
    values: tuple[str, ...]
    counts: list[int]
    nulls: int
    total: float


def _pack(column: BinnedColumn) -> _Packed:
    edges = column.edges.astype("<f4").tobytes()
    return _Packed(str(column.kind), edges, column.values, column.counts.tolist(), column.nulls, column.total)


def _unpack(packed: _Packed) -> BinnedColumn:
    import numpy as np

    column = BinnedColumn(packed.kind, np.frombuffer(packed.edges, "<f4").astype(np.float32), packed.values)
    if len(packed.counts) != len(column.counts):
        raise ValueError(f"{len(packed.counts)} counts for {len(column.counts)} bins")
    column.counts = np.array(packed.counts, dtype=np.int64)
    column.nulls, column.total = packed.nulls, packed.total
    return column
