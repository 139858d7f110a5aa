"""Will this flight arrive more than 15 minutes late? Judged at its scheduled departure, from what is known by then.

What is known: the schedule, the weather observed at the airport, and how yesterday's flights of the same carrier, route,
aircraft and airport went. What is not known, and never used: how this flight itself goes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import loopwright as lw
import polars as pl

LATE_MINUTES = 15
HOLDOUT_DAYS = 10
WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
SCHEDULE = ("hour", "minute", "weekday", "distance", "sched_arr_time")
PAST = {
    "carrier_day": ("carrier",),
    "route_day": ("origin", "dest"),
    "aircraft_day": ("tailnum",),
    "airport_day": ("origin",),
}
SUMMARY = ("late_share", "mean_delay", "flights")
INPUTS = (*SCHEDULE, *WEATHER, *(f"{view}__{name}" for view in PAST for name in SUMMARY))


def turn_after(moment: pl.Expr) -> pl.Expr:
    """The next turn of the operational day, 08:00 UTC: from then on a flight's outcome counts as yesterday's."""
    return (moment - timedelta(hours=8)).dt.truncate("1d") + timedelta(days=1, hours=8)


def yesterday_by(keys: tuple[str, ...]):
    """What yesterday's flights showed, by these keys; valid from the turn of the day."""

    def summarise(flights: pl.LazyFrame) -> pl.LazyFrame:
        flown = flights.filter(pl.col("arr_delay").is_not_null())
        return (
            flown.with_columns(as_of=turn_after(pl.col("known_at")))
            .group_by(*keys, "as_of")
            .agg(
                late_share=(pl.col("arr_delay") > LATE_MINUTES).mean(),
                mean_delay=pl.col("arr_delay").mean(),
                flights=pl.len().cast(pl.Float64),
            )
        )

    return summarise
