"""Sketches of columns and tables: constant memory however many rows, mergeable, the same bytes for the same data."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, Invalid
from loopwright.stats.distinct import DistinctSketch
from loopwright.stats.frequent import FrequentValues
from loopwright.stats.moments import Moments
from loopwright.stats.quantiles import QuantileSketch
from loopwright.stats.values import count_texts, numbers_of, splits_into_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_MAGIC = b"LWSK1"
_CHUNK = 1 << 15  # values at a time, so that the work arrays stay in the cache


class ColumnKind(StrEnum):
    """How a column's values are summarised."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


class ColumnSketch:
    """What is kept of one column.

    Numeric: quantiles, moments, extremes. Categorical: counts of the most frequent values. Both: how many values, nulls
    and different values. NaN counts as null. Updating is in place; merging makes a new sketch.
    """

    __slots__ = ("_distinct", "_frequent", "_quantiles", "kind", "max", "min", "moments", "nulls")

    def __init__(self, kind: ColumnKind | str = ColumnKind.NUMERIC) -> None:
        self.kind = ColumnKind(kind)
        self.nulls = 0
        self.min = math.nan
        self.max = math.nan
        self.moments = Moments()
        self._quantiles = QuantileSketch()
        self._frequent = FrequentValues()
        self._distinct = DistinctSketch()

    def update(self, values: NDArray[Any] | Sequence[Any], nulls: int = 0) -> None:
        """Add values.

        Args:
            values: a NumPy array or a sequence; None and NaN in it count as null.
            nulls: how many nulls besides those in `values`.

        Raises:
            Invalid: the column is numeric and a value is no number.
        """
        if self.kind is ColumnKind.CATEGORICAL:
            counts, found = count_texts(values)
            self.update_counts(counts, nulls + found)
        else:
            numbers, found = numbers_of(values)
            self._update_numbers(numbers)
            self.nulls += nulls + found

    def update_counts(self, counts: Mapping[str, int], nulls: int = 0) -> None:
        """Add the values of a categorical column that were counted already.

        Raises:
            Invalid: the column is numeric.
        """
        if self.kind is not ColumnKind.CATEGORICAL:
            raise Invalid("counted texts cannot be added to a numeric column", next_step="use update with numbers")
        self._frequent.update(counts)
        self._distinct.update_texts(list(counts))
        self.nulls += nulls

    def merge(self, other: ColumnSketch) -> ColumnSketch:
        """The sketch of both columns, one below the other.

        Raises:
            Invalid: one is numeric and the other categorical.
        """
        if other.kind is not self.kind:
            raise Invalid(f"a {self.kind} column cannot be merged with a {other.kind} one")
        merged = ColumnSketch(self.kind)
        merged.nulls = self.nulls + other.nulls
        merged.min, merged.max = _least(self.min, other.min), -_least(-self.max, -other.max)
        merged.moments = self.moments.merge(other.moments)
        merged._quantiles = self._quantiles.merge(other._quantiles)
        merged._frequent = self._frequent.merge(other._frequent)
        merged._distinct = self._distinct.merge(other._distinct)
        return merged

    @property
    def count(self) -> int:
        """How many values that are not null."""
        return self._frequent.n if self.kind is ColumnKind.CATEGORICAL else self._quantiles.n

    @property
    def distinct(self) -> int:
        """About how many different values (standard error 1.6 %; a few values are counted exactly)."""
        return min(self.count, round(self._distinct.estimate()))

    @property
    def mean(self) -> float:
        """The mean of the finite values; NaN where there is none."""
        return self.moments.mean if self.moments.n else math.nan

    @property
    def std(self) -> float:
        """The sample standard deviation of the finite values."""
        return self.moments.std

    @property
    def rank_error(self) -> float:
        """How far `ranks` may be off, as a share of the values; 0 while the sketch is exact."""
        if self.kind is ColumnKind.CATEGORICAL:
            return self._frequent.error / self.count if self.count else 0.0
        return self._quantiles.rank_error

    def quantiles(self, shares: ArrayLike) -> NDArray[np.float64]:
        """Values below which the given shares (0 to 1) of a numeric column lie; 0 and 1 give the exact extremes."""
        import numpy as np

        wanted = np.atleast_1d(np.asarray(shares, dtype=np.float64))
        found = self._quantiles.quantiles(wanted)
        return np.where(wanted <= 0.0, self.min, np.where(wanted >= 1.0, self.max, found))

    def ranks(self, edges: ArrayLike) -> NDArray[np.float64]:
        """The share of values at or below each edge, of a numeric column."""
        import numpy as np

        return self._quantiles.ranks(np.atleast_1d(np.asarray(edges)))

    def histogram(self, edges: ArrayLike) -> NDArray[np.float64]:
        """About how many values lie in (e0, e1], (e1, e2], ...: one number fewer than there are edges. The first bin
        takes in its lower edge."""
        import numpy as np

        bounds = np.atleast_1d(np.asarray(edges, dtype=np.float64))
        ranks = self.ranks(bounds)
        if len(ranks):
            below = np.nextafter(bounds[:1].astype(np.float32), np.float32(-np.inf))
            ranks[0] = self.ranks(below)[0]
        return np.diff(ranks) * self.count

    def top(self, k: int | None = None) -> list[tuple[str, int]]:
        """The most frequent values of a categorical column with their counts."""
        return self._frequent.top(k)

    def _update_numbers(self, numbers: NDArray[Any]) -> None:
        for start in range(0, len(numbers), _CHUNK):
            self._update_chunk(numbers[start : start + _CHUNK])

    def _update_chunk(self, numbers: NDArray[Any]) -> None:
        import numpy as np

        self._quantiles.update(numbers)
        self._distinct.update_numbers(numbers)
        finite = numbers.astype(np.float64, copy=False)
        if not np.isfinite(finite).all():
            finite = finite[np.isfinite(finite)]
        if len(finite):
            mean = float(finite.mean())
            spread = float(np.square(finite - mean).sum())
            self.moments = self.moments.merge(Moments(len(finite), mean, spread))
            self.min, self.max = _least(self.min, float(finite.min())), -_least(-self.max, -float(finite.max()))


class TableSketch:
    """The sketches of a table's columns, by name. This is a training profile, and what a dataset's profile shows."""

    __slots__ = ("columns",)

    def __init__(self, columns: dict[str, ColumnSketch] | None = None) -> None:
        self.columns: dict[str, ColumnSketch] = {} if columns is None else columns

    @property
    def rows(self) -> int:
        """How many rows were seen, by the column that saw most."""
        return max((column.count + column.nulls for column in self.columns.values()), default=0)

    def update(
        self, name: str, values: NDArray[Any] | Sequence[Any], nulls: int = 0, kind: ColumnKind | str | None = None
    ) -> None:
        """Add values to the column `name`, which is made on first use.

        Args:
            name: the column.
            values: a NumPy array or a sequence; None and NaN in it count as null.
            nulls: how many nulls besides those in `values`.
            kind: of a new column; by default numbers and times are numeric, texts and truth values categorical.

        Raises:
            Invalid: the column is numeric and a value is no number.
        """
        if name not in self.columns:
            self.columns[name] = ColumnSketch(kind or _kind_of(values))
        try:
            self.columns[name].update(values, nulls)
        except Invalid as error:
            raise Invalid(error.message, where=f"column {name!r}", next_step=error.next_step) from None

    def fold(self, columns: Mapping[str, NDArray[Any] | Sequence[Any]]) -> None:
        """Add rows, given as columns of equal length."""
        for name, values in columns.items():
            self.update(name, values)

    def merge(self, other: TableSketch) -> TableSketch:
        """The sketch of both tables, one below the other. A column that only one has is kept as it is.

        Raises:
            Invalid: a column is numeric in one and categorical in the other.
        """
        merged = TableSketch({name: _copy(column) for name, column in self.columns.items()})
        for name, column in other.columns.items():
            mine = self.columns.get(name)
            merged.columns[name] = mine.merge(column) if mine else _copy(column)
        return merged

    def to_bytes(self) -> bytes:
        """The sketch as bytes: equal for equal histories, small, and safe to read from a stranger."""
        from loopwright.stats.wire import pack_column

        body = {name: pack_column(column) for name, column in self.columns.items()}
        return _MAGIC + zlib.compress(msgspec.msgpack.encode(body), level=6)

    @classmethod
    def from_bytes(cls, data: bytes) -> TableSketch:
        """The sketch that `to_bytes` wrote.

        Raises:
            Corrupt: the bytes are no sketch.
        """
        from loopwright.stats.wire import PackedColumn, inflate, unpack_column

        if not data.startswith(_MAGIC):
            raise Corrupt(f"{len(data)} bytes that should be a table sketch do not start with {_MAGIC!r}")
        try:
            body = msgspec.msgpack.decode(inflate(data[len(_MAGIC) :]), type=dict[str, PackedColumn])
            return cls({name: unpack_column(packed, ColumnSketch(packed.kind)) for name, packed in body.items()})
        except (zlib.error, msgspec.DecodeError, ValueError) as error:
            raise Corrupt(f"a table sketch of {len(data)} bytes cannot be read: {error}") from None


def _kind_of(values: NDArray[Any] | Sequence[Any]) -> ColumnKind:
    return ColumnKind.NUMERIC if splits_into_numbers(values) else ColumnKind.CATEGORICAL


def _copy(column: ColumnSketch) -> ColumnSketch:
    return column.merge(ColumnSketch(column.kind))


def _least(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return b if math.isnan(a) else a
    return min(a, b)
