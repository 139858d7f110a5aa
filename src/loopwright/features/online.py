"""Online reads: the newest features of many entities in one round trip per view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from loopwright.features.choosing import Chosen
from loopwright.features.computing import check_keys, fills, with_request_features
from loopwright.features.definitions import FeatureView, RequestView
from loopwright.features.encoding import column_of, decode_payload, encode_keys

if TYPE_CHECKING:
    import polars as pl

    from loopwright.store import OnlineStore

AGES = "ages_s"


class OnlineRows(NamedTuple):
    """Where a view's rows are in the online store, and the types of its keys and features; none before the first."""

    place: str
    types: Mapping[str, pl.DataType]


def read_online(
    online: OnlineStore,
    chosen: Sequence[Chosen],
    rows_of: Callable[[str], OnlineRows],
    keys: pl.DataFrame,
    moments: Sequence[datetime],
) -> tuple[pl.DataFrame, dict[str, list[float | None]]]:
    """The keys with their features, in order, and per view the age in seconds of each row's values.

    A row has no age, and its values are null or the view's defaults, where nothing is online, where that is older than
    the view's ttl, or where it is of a time after the moment of asking.

    Args:
        rows_of: a view's rows, by its name.
        moments: when each row is asked.

    Raises:
        Invalid: a key or a column that a request view needs is missing, or of the wrong type.
    """
    import polars as pl

    frame, ages = keys, {}
    for one in chosen:
        if isinstance(one.view, RequestView):
            continue
        values, ages[one.view.name] = _read_view(online, one, rows_of(one.view.name), keys, moments)
        frame = pl.concat([frame, values], how="horizontal") if one.columns else frame
    for one in chosen:
        if isinstance(one.view, RequestView):
            frame = _request_columns(frame, one, one.view)
    wanted = [column for one in chosen for column in one.columns.values()]
    return frame.select([*keys.columns, *(name for name in wanted if name not in keys.columns)]), ages


def _request_columns(frame: pl.DataFrame, one: Chosen, view: RequestView) -> pl.DataFrame:
    computed = with_request_features(frame.lazy(), view).select(list(one.columns)).collect()
    return frame.with_columns([computed[name].alias(column) for name, column in one.columns.items()])


def _read_view(
    online: OnlineStore, one: Chosen, kept: OnlineRows, keys: pl.DataFrame, moments: Sequence[datetime]
) -> tuple[pl.DataFrame, list[float | None]]:
    import polars as pl

    view = one.view
    assert isinstance(view, FeatureView)
    if not kept.types:
        empty = {column: pl.Series([None] * keys.height, dtype=pl.Null) for column in one.columns.values()}
        return pl.DataFrame(empty), [None] * keys.height
    asked = keys.select(check_keys(view, dict(keys.schema), kept.types))
    found = online.read(kept.place, encode_keys(asked, view.keys))
    rows, ages = _fresh(found, moments, view.ttl)
    places = {name: place for place, name in enumerate(view.features)}
    columns = [
        column_of([row[places[name]] if row is not None else None for row in rows], kept.types[name]).alias(column)
        for name, column in one.columns.items()
    ]
    defaults = fills(view, one.columns, kept.types)
    values = pl.DataFrame(columns)
    return values.with_columns(defaults) if defaults else values, ages


def _fresh(
    found: Sequence[tuple[datetime, bytes] | None], moments: Sequence[datetime], ttl: timedelta | None
) -> tuple[list[list[Any] | None], list[float | None]]:
    rows: list[list[Any] | None] = []
    ages: list[float | None] = []
    longest = ttl.total_seconds() if ttl is not None else float("inf")
    for row, now in zip(found, moments, strict=True):
        age_s = (now - row[0]).total_seconds() if row is not None else -1.0
        good = row is not None and 0.0 <= age_s <= longest
        rows.append(decode_payload(row[1]) if row is not None and good else None)
        ages.append(age_s if good else None)
    return rows, ages
