"""Point-in-time correctness, as pure functions of frames.

A row of a view is *true* from its timestamp and *seen* from the later of its timestamp and the time it became known.
The value at time t is that of the row with the latest timestamp among the rows seen by t; of rows with one timestamp
the one that became known last counts, and of those that still tie the one with the greatest values, so that the answer
does not depend on the order of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

TRUE = "__true"
SEEN = "__seen"
AT = "__at"
ROW = "__row"


def timeline(rows: pl.DataFrame, keys: Sequence[str], features: Sequence[str]) -> pl.DataFrame:
    """Rows in the order in which they are seen, without those that are outdated by the time they are seen.

    Within one entity the timestamps of what is left never go back, so the last row seen is also the latest true one.

    Args:
        rows: with the columns `keys`, `features`, TRUE and SEEN.
    """
    import polars as pl

    tie_breakers = [name for name in features if not rows.schema[name].is_nested()]
    ordered = rows.sort([SEEN, TRUE, *tie_breakers], maintain_order=True)
    if bool((ordered[SEEN] == ordered[TRUE]).all()):
        return ordered
    # A correction (same timestamp, known later) comes later in this order, so `>=` lets it replace what it corrects.
    return ordered.filter(pl.col(TRUE) >= pl.col(TRUE).cum_max().over(list(keys)))


def as_of(
    spine: pl.DataFrame, line: pl.DataFrame, keys: Sequence[str], features: Sequence[str], ttl: timedelta | None
) -> pl.DataFrame:
    """The features of each row of the spine at its time, in the spine's order; null where none was seen in time.

    Args:
        spine: with the columns `keys` and AT.
        line: as `timeline` gives it.
        ttl: a row that was true more than this before AT is no longer good.
    """
    import polars as pl

    asked = spine.select([*keys, AT]).with_row_index(ROW).filter(pl.col(AT).is_not_null())
    joined = asked.sort(AT).join_asof(
        line.select([*keys, SEEN, TRUE, *features]),
        left_on=AT,
        right_on=SEEN,
        by=list(keys),
        strategy="backward",
        check_sortedness=False,  # both sides are sorted, which Polars cannot see where there are keys
    )
    if ttl is not None:
        joined = joined.filter(pl.col(AT) - pl.col(TRUE) <= ttl)
    found = joined.select([pl.col(ROW).cast(pl.UInt32), *features])
    rows = spine.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias(ROW))
    return rows.join(found, on=ROW, how="left", maintain_order="left").select(features)


def latest(line: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The last row of each entity."""
    return line.unique(subset=list(keys), keep="last")
