"""The point-in-time join over frames of any size: a bound on rows, not on data.

The spine goes through in chunks. For each chunk a view contributes only the rows that can matter to it: of each of its
entities the latest row seen by the chunk's first time, and all rows seen from there to its last. Where these are still
too many the chunk is halved, by entity or by time, until they fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from loopwright.features.timeline import AT, ROW, SEEN, TRUE, as_of, timeline

if TYPE_CHECKING:
    import polars as pl

MAX_ROWS = 4_000_000


@dataclass(frozen=True)
class Joinable:
    """A view's part in a join.

    Attributes:
        rows: with the columns `keys`, TRUE, SEEN and the features, in types of the view.
        keys: its key columns; `casts` bring the spine's keys to the types of these.
        features: feature -> name of the column in the result.
        fills: put the view's defaults where such a column has nothing.
    """

    rows: pl.LazyFrame
    keys: Sequence[str]
    casts: Sequence[pl.Expr]
    features: dict[str, str]
    ttl: timedelta | None
    fills: Sequence[pl.Expr] = ()


def join_chunks(
    spine: pl.LazyFrame, at: pl.Expr, views: Sequence[Joinable], max_rows: int = MAX_ROWS
) -> Iterator[pl.DataFrame]:
    """The spine with the views' features, chunk by chunk, in the spine's order.

    Args:
        at: the spine's time, in UTC microseconds.
        max_rows: how many rows of the spine, and of each view, are in memory at a time.
    """
    import polars as pl

    whole = [_whole(view, max_rows) for view in views]
    for chunk in spine.collect_batches(chunk_size=max_rows, lazy=True, engine="streaming"):
        columns = [chunk]
        for view, line in zip(views, whole, strict=True):
            asked = chunk.select(*view.casts, at.alias(AT))
            features = list(view.features)
            if line is not None:
                found = as_of(asked, line, view.keys, features, view.ttl)
            else:
                found = _bounded(asked.with_row_index(ROW), view, max_rows).sort(ROW).select(features)
            columns.append(found.rename(view.features).with_columns(*view.fills))
        yield pl.concat(columns, how="horizontal")


def _whole(view: Joinable, max_rows: int) -> pl.DataFrame | None:
    """The view's whole timeline, if it is small enough to keep."""
    rows = view.rows.head(max_rows + 1).collect(engine="streaming")
    return timeline(rows, view.keys, list(view.features)) if rows.height <= max_rows else None


def _bounded(asked: pl.DataFrame, view: Joinable, max_rows: int) -> pl.DataFrame:
    """ROW and the features of each asked row, from a view that is too large to keep."""
    import polars as pl

    features = list(view.features)
    timed = asked.filter(pl.col(AT).is_not_null())
    if timed.height:
        rows = _relevant(timed, view, max_rows)
        if rows is None:
            return pl.concat([_bounded(part, view, max_rows) for part in _halves(asked, view.keys)])
    else:
        rows = view.rows.head(0).collect()
    found = as_of(asked, timeline(rows, view.keys, features), view.keys, features, view.ttl)
    return pl.concat([asked.select(ROW), found], how="horizontal")


def _relevant(asked: pl.DataFrame, view: Joinable, max_rows: int) -> pl.DataFrame | None:
    """The rows of the view that can matter to the asked rows; None if there are too many."""
    import polars as pl

    keys, first, last = list(view.keys), asked[AT].min(), asked[AT].max()
    entities = asked.select(keys).unique().lazy()
    mine = view.rows.join(entities, on=keys, how="semi")
    during = mine.filter((pl.col(SEEN) > first) & (pl.col(SEEN) <= last)).head(max_rows + 1).collect(engine="streaming")
    if during.height > max_rows and asked.height > 1:
        return None
    before = mine.filter(pl.col(SEEN) <= first)
    newest = before.group_by(keys).agg(pl.col(TRUE).max())
    kept = before.join(newest, on=[*keys, TRUE], how="semi").collect(engine="streaming")
    return pl.concat([kept, during])


def _halves(asked: pl.DataFrame, keys: Sequence[str]) -> list[pl.DataFrame]:
    """Two smaller sets of asked rows, apart by entity or, for one entity, by time."""
    entities = asked.select(keys).unique(maintain_order=True)
    if entities.height > 1:
        first = entities.head(entities.height // 2)
        return [
            asked.join(first, on=list(keys), how="semi", nulls_equal=True),
            asked.join(first, on=list(keys), how="anti", nulls_equal=True),
        ]
    ordered = asked.sort(AT)
    return [ordered.head(asked.height // 2), ordered.tail(asked.height - asked.height // 2)]
