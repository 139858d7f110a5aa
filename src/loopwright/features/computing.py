"""The one place where feature values are computed: batch, push and request time all come through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from loopwright.core import Invalid
from loopwright.features.definitions import FeatureView, RequestView
from loopwright.features.timeline import SEEN, TRUE

if TYPE_CHECKING:
    import polars as pl


def feature_rows(view: FeatureView, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of a view: its keys, TRUE, SEEN, and its features. Rows without a key or a time are left out.

    Args:
        rows: of the view's dataset, after its transform if it has one.

    Raises:
        Invalid: a column that the view needs is missing, or is no time.
    """
    import polars as pl

    types = dict(rows.collect_schema())
    _require(view, types)
    true = utc(pl.col(view.timestamp), types[view.timestamp])
    known = utc(pl.col(view.known_at), types[view.known_at]) if view.known_at else true
    seen = pl.max_horizontal(true, known) if view.known_at else true
    present = [pl.col(name).is_not_null() for name in (*view.keys, view.timestamp)]
    if view.known_at:
        present.append(pl.col(view.known_at).is_not_null())
    return rows.filter(pl.all_horizontal(present)).select(
        *[pl.col(key) for key in view.keys], true.alias(TRUE), seen.alias(SEEN), *view.expressions()
    )


def transformed(view: FeatureView, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that the view's transform makes of the dataset's."""
    return view.transform(rows) if view.transform else rows


def with_request_features(frame: pl.LazyFrame, view: RequestView) -> pl.LazyFrame:
    """The frame with the features of a request view.

    Raises:
        Invalid: a column that an expression needs is missing.
    """
    types = frame.collect_schema()
    for name, expression in zip(view.features, view.expressions(), strict=True):
        absent = [column for column in expression.meta.root_names() if column not in types]
        if absent:
            raise Invalid(
                f"feature {view.name}:{name} needs {', '.join(map(repr, absent))}, which the request does not have",
                next_step="give the column, or ask for the feature that has its name",
            )
    return frame.with_columns(view.expressions())


def fills(view: FeatureView, columns: Mapping[str, str], types: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Expressions that put the view's defaults where a feature has no value.

    Args:
        columns: feature -> name of its column.
        types: of the view's features.
    """
    import polars as pl

    return [
        pl.col(column).fill_null(pl.lit(view.defaults[name]).cast(types[name]))
        for name, column in columns.items()
        if name in view.defaults
    ]


def utc(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A time column as UTC microseconds; one without a zone is taken to be UTC."""
    import polars as pl

    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return column.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def seen_between(rows: pl.LazyFrame, since: datetime | None, until: datetime | None) -> pl.LazyFrame:
    """The rows that were first seen after `since` and by `until`."""
    import polars as pl

    if since is not None:
        rows = rows.filter(pl.col(SEEN) > since)
    return rows.filter(pl.col(SEEN) <= until) if until is not None else rows


def check_keys(view: FeatureView, types: Mapping[str, pl.DataType], keys: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Expressions that bring the keys of a request or spine to the types of the view's keys.

    Raises:
        Invalid: a key is missing, or of a kind that cannot match.
    """
    import polars as pl

    casts = []
    for key in view.keys:
        if key not in types:
            raise Invalid(
                f"feature view {view.name!r} needs the key {key!r}, which is not there",
                next_step=f"give the column {key!r}; there are {', '.join(types) or 'none'}",
            )
        have, want = types[key], keys[key]
        if have != want and not _matches(have, want):
            raise Invalid(
                f"the key is {have} here and {want} in feature view {view.name!r}",
                where=f"column {key!r}",
                next_step="cast the column",
            )
        casts.append(pl.col(key).cast(want, strict=False))
    return casts


def _matches(have: pl.DataType, want: pl.DataType) -> bool:
    import polars as pl

    texts = (pl.String, pl.Categorical, pl.Enum)
    if have == pl.Null or (have in texts and want in texts):
        return True
    return (have.is_integer() and want.is_integer()) or (have.is_temporal() and want.is_temporal())


def _require(view: FeatureView, types: Mapping[str, pl.DataType]) -> None:
    needed: Sequence[str] = [*view.keys, view.timestamp, *([view.known_at] if view.known_at else [])]
    roots = [root for expression in view.expressions() for root in expression.meta.root_names()]
    absent = [name for name in dict.fromkeys([*needed, *roots]) if name not in types]
    if absent:
        raise Invalid(
            f"feature view {view.name!r} needs {', '.join(map(repr, absent))}, which its rows do not have",
            next_step=f"the rows have {', '.join(types)}",
        )
    for name in needed[len(view.keys) :]:
        if not types[name].is_temporal() or types[name].base_type().__name__ in {"Time", "Duration"}:
            raise Invalid(
                f"the column is {types[name]}, not a time",
                where=f"feature view {view.name!r}, column {name!r}",
                next_step="name a column of times",
            )
