"""A few rows of whatever a library trains on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MAX_SAMPLE_ROWS = 200
_MAX_SPARSE_COLUMNS = 2_000


def shape_of(data: Any) -> tuple[int, ...]:
    """Rows and columns, as far as the data tell."""
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(size, int) for size in shape):
        return shape
    return (len(data),) if hasattr(data, "__len__") else ()


def take(data: Any, rows: Any) -> Any:
    """Rows of an array, a sparse matrix, a data frame or a list, by their numbers."""
    if data is None:
        return None
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    if hasattr(data, "tocsr"):
        return data.tocsr()[rows]
    if isinstance(data, list | tuple):
        return [data[row] for row in rows]
    return data[rows]


def spread(total: int, wanted: int) -> Any:
    """The numbers of at most `wanted` rows, evenly spread over all."""
    import numpy as np

    return np.arange(total) if total <= wanted else np.linspace(0, total - 1, wanted).astype(np.int64)


def sample_frame(data: Any) -> pl.DataFrame | None:
    """Up to 200 rows, evenly spread, with the columns that a bundle of the model takes; None where there are none.

    An array's columns are called `x0`, `x1` and so on.
    """
    import numpy as np
    import polars as pl

    shape = shape_of(data)
    if isinstance(data, list) and data and isinstance(data[0], list | tuple):
        shape = (len(data), len(data[0]))
    if len(shape) != 2 or 0 in shape or (hasattr(data, "tocsr") and shape[1] > _MAX_SPARSE_COLUMNS):
        return None
    some = take(data, spread(shape[0], MAX_SAMPLE_ROWS))
    if isinstance(some, pl.DataFrame):
        return some
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(some, pandas.DataFrame):
        return pl.DataFrame([_series(str(name), some.iloc[:, at]) for at, name in enumerate(some.columns)])
    values = np.asarray(some.toarray() if hasattr(some, "toarray") else some)
    return pl.DataFrame([_series(f"x{at}", values[:, at]) for at in range(values.shape[1])])


def _series(name: str, values: Any) -> pl.Series:
    """A column; objects, such as texts with gaps, as what they are."""
    import polars as pl

    if getattr(getattr(values, "dtype", None), "kind", "") in "biufM" and not hasattr(values, "array"):
        return pl.Series(name, values)
    kind = getattr(values.dtype, "kind", "O")
    if kind in "biuf" and isinstance(values.dtype.type, type) and not hasattr(values.dtype, "na_value"):
        return pl.Series(name, values.to_numpy())
    return pl.Series(name, [None if value != value else value for value in list(values)], strict=False)
