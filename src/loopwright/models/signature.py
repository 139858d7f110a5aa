"""A model's signature, read off a sample of its inputs and the profile of its training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid
from loopwright.models.model import Input

if TYPE_CHECKING:
    import polars as pl

    from loopwright.stats import TableSketch

MAX_CATEGORIES = 100


def infer_inputs(sample: pl.DataFrame, profile: TableSketch, nullable: Sequence[str] = ()) -> tuple[Input, ...]:
    """One input per column of the sample, in order.

    Args:
        sample: rows as the model takes them.
        profile: the sketch of the training data; ranges, categories and nulls come from it.
        nullable: inputs that may be missing in a request, whether or not training saw them missing.

    Raises:
        Invalid: a column has a type that no model takes, or `nullable` names a column that is not there.
    """
    unknown = [name for name in nullable if name not in sample.columns]
    if unknown:
        raise Invalid(
            f"nullable names {', '.join(map(repr, unknown))}, which the sample does not have",
            next_step=f"its columns are {', '.join(sample.columns)}",
        )
    return tuple(_input(sample[name], profile, name in nullable) for name in sample.columns)


def _input(column: pl.Series, profile: TableSketch, nullable: bool) -> Input:
    dtype, shape = type_of(column)
    if shape:
        low, high = _range(column)
        return Input(column.name, dtype, shape=shape, low=low, high=high)
    sketch = profile.columns.get(column.name)
    missing = column.null_count() > 0 or (column.dtype.is_float() and bool(column.is_nan().any()))
    missing = missing or nullable or (sketch is not None and sketch.nulls > 0)
    if sketch is None:
        return Input(column.name, dtype, nullable=missing)
    if dtype is DType.STRING:
        top = [str(value) for value, _ in sketch.top(MAX_CATEGORIES)]
        more = sketch.distinct > len(top) + 0.5
        return Input(column.name, dtype, nullable=missing, categories=tuple(top), more_categories=more)
    low, high = sketch.min, sketch.max
    return Input(
        column.name,
        dtype,
        nullable=missing,
        low=None if low is None else float(low),
        high=None if high is None else float(high),
    )


def _range(column: pl.Series) -> tuple[float | None, float | None]:
    """The least and the greatest number in a column of arrays, as the sample has them: a profile knows only columns of
    one value a row."""
    import numpy as np

    values = np.array(column.to_list(), dtype=np.float64)
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (None, None)


def type_of(column: pl.Series) -> tuple[DType, tuple[int, ...]]:
    """The type of a column's values, and the shape of one where a row holds several: a vector, an image.

    Raises:
        Invalid: no model takes it, or its lists have different lengths.
    """
    import numpy as np
    import polars as pl

    kind: Any = column.dtype
    if not isinstance(kind, pl.Array | pl.List):
        return dtype_of(column.name, kind), ()
    while isinstance(kind, pl.Array | pl.List):
        kind = kind.inner
    dtype = dtype_of(column.name, kind)
    if column.null_count() or dtype is DType.STRING:
        fact = "misses some" if column.null_count() else "holds text"
        raise Invalid(f"column {column.name!r} has several values a row and {fact}, which a model cannot take")
    try:
        values = np.array(column.to_list(), dtype=np.float64)
    except ValueError:
        raise Invalid(
            f"column {column.name!r} has lists of different lengths",
            next_step="give every row as many values: cut, or fill up",
        ) from None
    return dtype, tuple(int(size) for size in values.shape[1:])


def dtype_of(name: str, kind: pl.DataType) -> DType:
    """The input type for a type of a column.

    Raises:
        Invalid: no model takes it.
    """
    import polars as pl

    if kind == pl.Boolean:
        return DType.BOOL
    if kind.is_integer():
        return DType.INT64
    if kind == pl.Float32:
        return DType.FLOAT32
    if kind.is_float() or kind.is_decimal():
        return DType.FLOAT64
    if kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum):
        return DType.STRING
    raise Invalid(
        f"column {name!r} has type {kind}, which a model cannot take",
        next_step="turn it into numbers or strings before the model sees it (hour, weekday, length, ...)",
    )
