"""Profiles from mergeable sketches: one pass, constant memory, and two profiles are compared without the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.data.dtypes import dtype_word
from loopwright.data.model import ColumnComparison, ColumnProfile, Comparison, Histogram, Profile, TopValue
from loopwright.data.sources.source import polars_batches

if TYPE_CHECKING:
    import polars as pl

    from loopwright.stats import ColumnSketch, TableSketch

_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BINS = 20
_TOP = 10
_LONG_TEXT_BYTES = 200


def sketch_of(frame: pl.DataFrame | pl.LazyFrame) -> TableSketch:
    """The sketch of a frame's columns: numbers and times by their quantiles, texts and truth values by their counts.

    Times count as microseconds since 1970, dates too. Columns of bytes, lists and structs are left out. A lazy frame is
    streamed: memory does not grow with it.
    """
    import polars as pl

    from loopwright.stats import ColumnSketch, TableSketch

    schema = frame.collect_schema()
    kinds = {name: kind for name, dtype in schema.items() if (kind := _kind_of(dtype))}
    sketch = TableSketch({name: ColumnSketch(kind) for name, kind in kinds.items()})
    chosen = frame.select(list(kinds))
    for batch in [chosen] if isinstance(chosen, pl.DataFrame) else polars_batches(chosen):
        for name in kinds:
            _add(sketch.columns[name], batch.get_column(name))
    return sketch


def profile_of(ref: str, sketch: TableSketch, rows: int, columns: Mapping[str, pl.DataType]) -> Profile:
    """The profile that a sketch holds, for people to read."""
    found = {
        name: _column_profile(sketch.columns[name], dtype_word(dtype))
        for name, dtype in columns.items()
        if name in sketch.columns
    }
    return Profile(ref, rows, found)


def compare_sketches(
    before: tuple[str, int, TableSketch, Mapping[str, pl.DataType]],
    after: tuple[str, int, TableSketch, Mapping[str, pl.DataType]],
) -> Comparison:
    """Two versions compared; each is given as its ref, its number of rows, its sketch and its column types."""
    ref_before, rows_before, sketch_before, types_before = before
    ref_after, rows_after, sketch_after, types_after = after
    shared = [name for name in types_before if name in types_after]
    words = {name: (str(dtype_word(types_before[name])), str(dtype_word(types_after[name]))) for name in shared}
    return Comparison(
        before=ref_before,
        after=ref_after,
        rows_before=rows_before,
        rows_after=rows_after,
        added_columns=tuple(name for name in types_after if name not in types_before),
        removed_columns=tuple(name for name in types_before if name not in types_after),
        changed_types={name: pair for name, pair in words.items() if pair[0] != pair[1]},
        columns=tuple(
            _compare_columns(name, sketch_before.columns[name], sketch_after.columns[name])
            for name in shared
            if name in sketch_before.columns and name in sketch_after.columns
        ),
    )


def _kind_of(dtype: pl.DataType) -> str:
    import polars as pl

    if dtype.is_numeric() or dtype.is_temporal():
        return "numeric"
    return "categorical" if dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) else ""


def _add(column: ColumnSketch, values: pl.Series) -> None:
    import polars as pl

    nulls = values.null_count()
    present = values.drop_nulls() if nulls else values
    if column.kind == "numeric":
        column.update(_numbers(present).to_numpy(), nulls)
        return
    texts = present.cast(pl.String)
    short = texts.str.len_bytes() <= _LONG_TEXT_BYTES
    if not bool(short.all()):
        column.update(texts.filter(~short).to_list())
        texts = texts.filter(short)
    counted = texts.alias("value").value_counts(name="count")
    column.update_counts(dict(zip(counted["value"].to_list(), counted["count"].to_list(), strict=True)), nulls)


def _numbers(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return values.cast(pl.Datetime("us")).to_physical()
    if values.dtype.is_temporal():
        return values.to_physical()
    return values.cast(pl.Float64) if values.dtype.is_decimal() else values


def _column_profile(column: ColumnSketch, word: str) -> ColumnProfile:
    common: dict[str, Any] = {
        "dtype": word,
        "count": column.count,
        "nulls": column.nulls,
        "distinct": float(column.distinct),
    }
    if column.kind != "numeric":
        return ColumnProfile(**common, top=tuple(TopValue(value, count) for value, count in column.top(_TOP)))
    if not column.count:
        return ColumnProfile(**common)
    quantiles = {
        f"{share:g}": _finite(value) or 0.0 for share, value in zip(_SHARES, column.quantiles(_SHARES), strict=True)
    }
    return ColumnProfile(
        **common,
        mean=_finite(column.mean),
        std=_finite(column.std),
        min=_finite(column.min),
        max=_finite(column.max),
        quantiles=quantiles,
        histogram=_histogram(column),
    )


def _histogram(column: ColumnSketch) -> Histogram | None:
    import numpy as np

    if not (math.isfinite(column.min) and math.isfinite(column.max)):
        return None
    high = column.max if column.max > column.min else column.min + 1.0
    edges = np.linspace(column.min, high, _BINS + 1)
    return Histogram(tuple(map(float, edges)), tuple(float(count) for count in column.histogram(edges)))


def _compare_columns(name: str, before: ColumnSketch, after: ColumnSketch) -> ColumnComparison:
    from loopwright.stats import compare

    nulls = (_share(before.nulls, before.count), _share(after.nulls, after.count))
    if before.kind != after.kind or not before.count or not after.count:
        return ColumnComparison(name, "", None, None, "", None, *nulls)
    result = compare(before, after)
    numeric = before.kind == "numeric"
    return ColumnComparison(
        column=name,
        test=result.test,
        statistic=_finite(result.statistic),
        p_value=_finite(result.p_value),
        effect_name=result.effect.name,
        effect=_finite(result.effect.value),
        nulls_before=nulls[0],
        nulls_after=nulls[1],
        mean_before=_finite(before.mean) if numeric else None,
        mean_after=_finite(after.mean) if numeric else None,
    )


def _share(nulls: int, count: int) -> float:
    return nulls / (nulls + count) if nulls + count else 0.0


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
