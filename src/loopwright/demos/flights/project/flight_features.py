"""What is known of a flight at its scheduled departure, and what a day of raw flights must look like."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import polars as pl

import loopwright as lw
from loopwright.data import between, in_set, not_null, suite, unique

LATE_MINUTES = 15
SCHEDULE = ("hour", "minute", "weekday", "distance", "sched_arr_time")
WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
SUMMARY = ("late_share", "mean_delay", "flights")
PAST = {
    "carrier_day": ("carrier",),
    "route_day": ("origin", "dest"),
    "aircraft_day": ("tailnum",),
    "airport_day": ("origin",),
}
INPUTS = (*SCHEDULE, *WEATHER, *(f"{view}__{name}" for view in PAST for name in SUMMARY))
Flown = Callable[[pl.LazyFrame], pl.LazyFrame]

CHECKS = suite(
    "flights_as_flown",
    [
        not_null("flight_id", "scheduled_at", "carrier", "origin", "dest"),
        unique("flight_id"),
        in_set("origin", ["EWR", "JFK", "LGA"]),
        between("distance", 1, 6000),
        between("dep_delay", -120, 1500),
        not_null("dep_time", severity="warn", name="flights that were cancelled"),
        not_null("arr_delay", severity="warn", name="flights without an arrival"),
        not_null("tailnum", severity="warn", name="flights without an aircraft"),
    ],
)


def turn_after(moment: pl.Expr) -> pl.Expr:
    """The next turn of the operational day, 08:00 UTC: from then on a flight's outcome counts as yesterday's."""
    return (moment - timedelta(hours=8)).dt.truncate("1d") + timedelta(days=1, hours=8)


def summary_of(flights: pl.LazyFrame, keys: tuple[str, ...]) -> pl.LazyFrame:
    """What a day's flights showed, by these keys; true from the turn of the day after."""
    flown = flights.filter(pl.col("arr_delay").is_not_null()).with_columns(as_of=turn_after(pl.col("known_at")))
    return flown.group_by(*keys, "as_of").agg(
        late_share=(pl.col("arr_delay") > LATE_MINUTES).mean(),
        mean_delay=pl.col("arr_delay").mean(),
        flights=pl.len().cast(pl.Float64),
    )


def by_carrier(flights: pl.LazyFrame) -> pl.LazyFrame:
    return summary_of(flights, PAST["carrier_day"])


def by_route(flights: pl.LazyFrame) -> pl.LazyFrame:
    return summary_of(flights, PAST["route_day"])


def by_aircraft(flights: pl.LazyFrame) -> pl.LazyFrame:
    return summary_of(flights.filter(pl.col("tailnum").is_not_null()), PAST["aircraft_day"])


def by_airport(flights: pl.LazyFrame) -> pl.LazyFrame:
    return summary_of(flights, PAST["airport_day"])


def _view(name: str, transform: Flown) -> lw.FeatureView:
    return lw.FeatureView(
        name,
        lw.Entity(name.removesuffix("_day"), keys=PAST[name]),
        source="dataset:flights",
        timestamp="as_of",
        features=SUMMARY,
        transform=transform,
        ttl=timedelta(days=1),
        lookback=timedelta(days=2),
        source_timestamp="known_at",
    )


VIEWS = (
    _view("carrier_day", by_carrier),
    _view("route_day", by_route),
    _view("aircraft_day", by_aircraft),
    _view("airport_day", by_airport),
)
OBSERVED = lw.FeatureView(
    "weather",
    lw.Entity("airport_weather", keys=("origin",)),
    source="dataset:weather",
    timestamp="observed_at",
    features=WEATHER,
    ttl=timedelta(hours=6),
)
YESTERDAY = lw.FeatureService("yesterday", VIEWS)
DEFINITIONS = (*VIEWS, OBSERVED, YESTERDAY)


def scheduled(flights: pl.LazyFrame) -> pl.LazyFrame:
    """What the schedule says of each flight, beside its keys: a request as the endpoint will see it."""
    return flights.with_columns(weekday=pl.col("scheduled_at").dt.weekday())


def as_inputs(rows: pl.DataFrame) -> pl.DataFrame:
    """The model's inputs, all as 32-bit numbers, missing where nothing is known."""
    return rows.select(pl.col(name).cast(pl.Float32) for name in INPUTS)
