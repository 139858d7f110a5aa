"""Predictions and feedback as frames for their Delta tables.

Inputs are columns `input_<name>`, outputs `output_<name>`. Numbers are kept as 64-bit floats, so that a version that
takes an integer where the one before took a float fits the same table; where a name changes its kind altogether, the
new values get a column of their own, `input_<name>_as_string` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core import encode

if TYPE_CHECKING:
    import polars as pl

    from loopwright.serve import FeedbackRow, Prediction

_REFUSED = re.compile(r"[ ,;{}()\n\t=]")
INPUT, OUTPUT = "input_", "output_"


def prediction_frame(rows: Sequence[Prediction], kept: Mapping[str, Any] | None) -> pl.DataFrame:
    """Predictions of one endpoint as a frame.

    Args:
        rows: at least one.
        kept: the schema of the table as it is; None if there is none yet.
    """
    import polars as pl

    times = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        {
            "id": pl.Series([row.id for row in rows], dtype=pl.String),
            "event_time": pl.Series([row.event_time for row in rows], dtype=pl.Int64).cast(times),
            "received_at": pl.Series([row.received_at for row in rows], dtype=pl.Int64).cast(times),
            "model": pl.Series([row.model for row in rows], dtype=pl.String),
            "variant": pl.Series([row.variant for row in rows], dtype=pl.String),
            "shadow": pl.Series([row.shadow for row in rows], dtype=pl.Boolean),
            "rollout": pl.Series([row.rollout for row in rows], dtype=pl.String),
            "key": pl.Series([row.key for row in rows], dtype=pl.String),
            "status": pl.Series([str(row.status) for row in rows], dtype=pl.String),
            "error": pl.Series([row.error for row in rows], dtype=pl.String),
            "latency_us": pl.Series([row.latency_us for row in rows], dtype=pl.Int64),
        }
    )
    columns = [
        series
        for prefix, named in ((INPUT, _inputs(rows)), (OUTPUT, _outputs(rows)))
        for name, values in named.items()
        if (series := _series(prefix + _REFUSED.sub("_", name), values)) is not None
    ]
    return frame.with_columns(_fitting(series, kept or {}) for series in columns)


def feedback_frame(rows: Sequence[FeedbackRow]) -> pl.DataFrame:
    """Feedback as a frame; the value as JSON, since it may be of any kind."""
    import polars as pl

    times = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "prediction_id": pl.Series([row.prediction_id for row in rows], dtype=pl.String),
            "value": pl.Series([encode(row.value).decode() for row in rows], dtype=pl.String),
            "at": pl.Series([row.at for row in rows], dtype=pl.Int64).cast(times),
            "received_at": pl.Series([row.received_at for row in rows], dtype=pl.Int64).cast(times),
        }
    )


def _inputs(rows: Sequence[Prediction]) -> dict[str, list[Any]]:
    if len({row.columns for row in rows}) == 1:
        columns = zip(*(row.features for row in rows), strict=True)
        return {name: list(values) for name, values in zip(rows[0].columns, columns, strict=True)}
    return _gathered([dict(zip(row.columns, row.features, strict=True)) for row in rows])


def _outputs(rows: Sequence[Prediction]) -> dict[str, list[Any]]:
    return _gathered([row.outputs for row in rows])


def _gathered(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _series(name: str, values: Sequence[Any]) -> pl.Series | None:
    """Values as a column of the narrowest kind that holds them all; None if all are missing."""
    import polars as pl

    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return None
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds <= {int, float, bool}:
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    if kinds == {str}:
        return pl.Series(name, values, dtype=pl.String)
    if kinds <= {list, tuple} and all(isinstance(item, int | float) for value in values for item in value or ()):
        return pl.Series(name, values, dtype=pl.List(pl.Float64))
    return pl.Series(name, [None if value is None else encode(value).decode() for value in values], dtype=pl.String)


def _fitting(series: pl.Series, kept: Mapping[str, Any]) -> pl.Series:
    """The column, under another name where the table has one of another kind under its own."""
    if series.name not in kept or kept[series.name] == series.dtype:
        return series
    return series.alias(f"{series.name}_as_{str(series.dtype.base_type()).lower()}")
