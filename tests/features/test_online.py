"""Materialise, push, online reads: the same values as offline, only what is new each time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import Conflict, Invalid, ManualClock, NotFound, Scope, new_id
from loopwright.data import DatasetService
from loopwright.features import Entity, FeatureService, FeatureStore, FeatureView, RequestView
from loopwright.store import Stores

T0 = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIME = pl.Datetime("us", "UTC")


def rows_of(*rows: tuple[str, float, float | None]) -> pl.DataFrame:
    """Rows as (key, hours after T0, value)."""
    frame = pl.DataFrame(rows, schema={"key": pl.String, "at": pl.Float64, "v": pl.Float64}, orient="row")
    return frame.with_columns((T0 + pl.duration(seconds=pl.col("at") * 3600)).cast(TIME).alias("at"))


def view_of(**more: Any) -> FeatureView:
    features = {"v": "v", "big": pl.col("v") > 10}
    return FeatureView("view", Entity("thing", ["key"]), "t", "at", features, **more)


def online(features: FeatureStore, keys: str, at: datetime) -> list[float | None]:
    return [row["v"] for row in features.online(["view:v"], [{"key": key} for key in keys], at)]


def test_the_newest_rows_go_online(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 1.0), ("a", 2, 20.0), ("b", 1, None), ("c", 9, 3.0)))
    features.apply(view_of())
    report = features.materialise("view", T0 + 3 * HOUR)
    assert (report.rows, report.keys, report.incremental, report.dataset) == (3, 2, False, "dataset:t@1")
    rows = features.online(["view"], [{"key": key} for key in "cba"], T0 + 4 * HOUR)
    assert rows == [
        {"key": "c", "v": None, "big": None, "ages_s": {"view": None}},
        {"key": "b", "v": None, "big": None, "ages_s": {"view": 3 * 3600.0}},
        {"key": "a", "v": 20.0, "big": True, "ages_s": {"view": 2 * 3600.0}},
    ]
    (event,) = features.stores.events.read(kinds=["feature_view.materialised"])
    assert (event.subject, event.evidence["keys"]) == ("feature:view@1", 2)
    (made,) = [node.ref for node in features.stores.lineage.trace("dataset:t@1", "down").nodes][1:]
    trace = features.stores.lineage.trace(made, "up")
    assert {(edge.source, edge.role) for edge in trace.edges} == {
        ("dataset:t@1", "source"),
        ("feature:view@1", "definition"),
    }


def test_only_what_is_new_is_looked_at(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(*[("a", hour, hour) for hour in range(100)]))
    features.apply(view_of())
    features.materialise("view", T0 + 1000 * HOUR)
    assert features.materialise("view", T0 + 1001 * HOUR).rows == 0
    features.datasets.ingest("t", rows_of(("a", 100, 7.0), ("b", 5, 8.0)), mode="append")
    report = features.materialise("view", T0 + 1002 * HOUR)
    assert (report.rows, report.keys, report.incremental) == (2, 2, True)
    assert online(features, "ab", T0 + 1002 * HOUR) == [7.0, 8.0]
    record = features.get("view")
    assert (record.materialised_from, record.materialised_until) == ("dataset:t@2", T0 + 100 * HOUR)


def test_rows_of_the_future_wait_until_their_time(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 1, 1.0), ("a", 5, 5.0), ("a", 9, 9.0)))
    features.apply(view_of())
    features.materialise("view", T0 + 2 * HOUR)
    assert online(features, "a", T0 + 9 * HOUR) == [1.0]
    features.datasets.ingest("t", rows_of(("a", 7, 7.0)), mode="append")
    assert features.materialise("view", T0 + 8 * HOUR).rows == 2
    assert online(features, "a", T0 + 9 * HOUR) == [7.0]
    assert features.materialise("view", T0 + 8 * HOUR).rows == 0
    assert features.materialise("view", T0 + 9 * HOUR).rows == 1
    assert online(features, "a", T0 + 9 * HOUR) == [9.0]
    features.datasets.ingest("t", rows_of(("a", 8.5, 8.5), ("b", 8.5, 1.0)), mode="append")
    features.materialise("view", T0 + 2 * HOUR)  # a look at the past must not lose the new rows
    features.materialise("view", T0 + 10 * HOUR)
    assert online(features, "ab", T0 + 10 * HOUR) == [9.0, 1.0]


def test_a_value_has_its_ttl_online_too_and_is_not_read_before_its_time(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 1, 1.0)))
    features.apply(view_of(ttl=2 * HOUR))
    features.materialise("view", T0 + 2 * HOUR)
    moments = [T0, T0 + HOUR, T0 + 3 * HOUR, T0 + 3 * HOUR + timedelta(microseconds=1)]
    assert [online(features, "a", moment)[0] for moment in moments] == [None, 1.0, 1.0, None]


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(0, 9)), max_size=6),
        st.booleans(),
        st.integers(0, 22),
    ),
    min_size=1,
    max_size=6,
)


def two_hours(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The sum of an entity's values of an hour and of the hour before."""
    hourly = rows.group_by("key", "at").agg(pl.col("v").sum())
    before = hourly.select("key", pl.col("at") + HOUR, pl.col("v").alias("before"))
    summed = hourly.join(before, on=["key", "at"], how="left")
    return summed.with_columns(pl.col("v") + pl.col("before").fill_null(0.0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "transform", "lookback", "known"])
@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_course_of_appends_and_materialisations_agrees_with_offline(
    features: FeatureStore, kind: str, steps: list[Any]
) -> None:
    name = f"t{new_id()}"
    more: dict[str, Any] = {"known_at": "known"} if kind == "known" else {}
    if kind in {"transform", "lookback"}:
        more["transform"] = two_hours
    if kind == "lookback":
        more["lookback"] = HOUR
    view = FeatureView(name, Entity("thing", ["key"]), name, "at", ["v"], **more)
    features.apply(view)
    keys, highest = pl.DataFrame({"key": ["a", "b", "c"]}), 0
    for rows, replace, until in steps:
        frame = rows_of(*[(key, float(hour), float(value)) for key, hour, value in rows])
        frame = frame.with_columns((pl.col("at") + pl.duration(hours=pl.col("v"))).alias("known"))
        features.datasets.ingest(name, frame, mode="append")
        if replace:
            features.datasets.ingest(name, features.datasets.read(name).sample(fraction=1.0, shuffle=True, seed=1))
        # Time goes on: what was once online is never taken back.
        highest = max(highest, until)
        moment = T0 + highest * HOUR
        features.materialise(name, moment)
        assert features.skew(name, keys, moment).mismatches == {}


def test_a_late_row_is_seen_with_all_that_it_depends_on(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 1, 1.0), ("b", 5, 1.0)))
    features.apply(view_of(transform=two_hours, lookback=HOUR))
    features.materialise("view", T0 + 6 * HOUR)
    features.datasets.ingest("t", rows_of(("a", 2, 10.0)), mode="append")
    report = features.materialise("view", T0 + 6 * HOUR)
    assert report.incremental
    assert online(features, "ab", T0 + 6 * HOUR) == [11.0, 1.0]


def test_push_computes_what_batch_computes(features: FeatureStore, clock: ManualClock) -> None:
    features.datasets.ingest("t", rows_of(("a", 1, 1.0)))
    features.apply(view_of())
    features.materialise("view", T0 + 2 * HOUR)
    fresh = rows_of(("a", 3, 30.0), ("a", 2, 2.0), ("b", 3, 4.0))
    assert features.push("view", fresh).keys == 2
    now = T0 + 3 * HOUR
    assert [(row["v"], row["big"]) for row in features.online(["view"], [{"key": "a"}, {"key": "b"}], now)] == [
        (30.0, True),
        (4.0, False),
    ]
    assert features.skew("view", pl.DataFrame({"key": ["a"]}), now).mismatches == {"v": 1, "big": 1}
    report = features.push("view", fresh, to="both")
    assert report.dataset == "dataset:t@2"
    assert features.skew("view", pl.DataFrame({"key": ["a", "b"]}), now).mismatches == {}
    features.push("view", rows_of(("a", 0, 99.0)))
    assert online(features, "a", now) == [30.0]  # an older row does not replace a newer one


def test_push_needs_what_the_view_needs(features: FeatureStore) -> None:
    features.apply(view_of(transform=lambda rows: rows), RequestView("r", {"x": "y + 1"}))
    with pytest.raises(Conflict, match="computed by a transform"):
        features.push("view", rows_of(("a", 1, 1.0)), to="both")
    with pytest.raises(Conflict, match="computed from requests"):
        features.push("r", rows_of(("a", 1, 1.0)))
    with pytest.raises(Conflict, match="nothing to materialise"):
        features.materialise("r")
    with pytest.raises(Invalid, match="needs 'v'"):
        features.push("view", rows_of(("a", 1, 1.0)).drop("v"))
    with pytest.raises(Invalid, match="pushed to 'moon'"):
        features.push("view", rows_of(("a", 1, 1.0)), to="moon")
    with pytest.raises(NotFound, match="no dataset 't'"):
        features.materialise("view")


def test_request_features_are_computed_as_in_history(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 3.0)))
    features.apply(view_of(), RequestView("r", {"sum": pl.col("v") + pl.col("given"), "half": "given / 2.0"}))
    features.materialise("view", T0)
    keys = pl.DataFrame({"key": ["a", "b"], "given": [1, 2]})
    now = features.online_frame(["view:v", "r"], keys, T0)
    then = features.historical(keys.with_columns(event_timestamp=pl.lit(T0)), ["view:v", "r"]).collect()
    assert now.rows() == [("a", 1, 3.0, 4.0, 0.5), ("b", 2, None, None, 1.0)]
    assert now.equals(then.drop("event_timestamp"))
    with pytest.raises(Invalid, match="r:sum needs 'given'"):
        features.online(["view:v", "r"], [{"key": "a"}], T0)


def test_every_type_comes_back_as_it_went(features: FeatureStore) -> None:
    from decimal import Decimal

    values = {
        "i": 2**62,
        "f": float("inf"),
        "b": True,
        "s": "ä",
        "raw": b"\x00\xff",
        "d": date(2020, 2, 29),
        "t": datetime(2020, 1, 1, 1, 2, 3, 456789, tzinfo=UTC),
        "naive": datetime(2020, 1, 1, 1, 2, 3, 456789),  # noqa: DTZ001  (a time without a zone is what is tested)
        "m": Decimal("1.25"),
        "l": [1, None],
        "o": {"x": 1, "y": "z"},
        "none": None,
    }
    frame = pl.DataFrame({"key": [1], "at": [T0], **{name: [value] for name, value in values.items()}})
    features.datasets.ingest("t", frame)
    features.apply(FeatureView("view", Entity("thing", ["key"]), "t", "at", list(values)))
    features.materialise("view", T0)
    (row,) = features.online(["view"], [{"key": 1}], T0)
    assert {name: row[name] for name in values} == values
    offline = features.historical(pl.DataFrame({"key": [1], "event_timestamp": [T0]}), ["view"]).collect()
    assert (
        features.online_frame(["view"], pl.DataFrame({"key": [1]}), T0).schema == offline.drop("event_timestamp").schema
    )


def test_bad_keys_are_named_and_unknown_ones_are_null(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 3.0)))
    features.apply(view_of())
    assert features.online(["view:v"], [{"key": "a"}], T0)[0]["v"] is None  # nothing materialised yet
    features.materialise("view", T0)
    with pytest.raises(Invalid, match="needs the key 'key'"):
        features.online(["view"], [{"kee": "a"}], T0)
    with pytest.raises(Invalid, match="key is Int64 here and String"):
        features.online(["view"], [{"key": 1}], T0)
    assert features.online(["view:v"], [{"key": None}], T0)[0]["v"] is None
    assert features.online(["view:v"], [], T0) == []


def test_projects_and_definitions_do_not_mix(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 3.0)))
    features.apply(view_of())
    features.materialise("view", T0)
    scope = Scope(project="other")
    other = FeatureStore(features.stores, scope, datasets=DatasetService(features.stores, scope))
    with pytest.raises(NotFound):
        other.online(["view"], [{"key": "a"}], T0)
    other.apply(view_of())
    assert other.online(["view:v"], [{"key": "a"}], T0)[0]["v"] is None


def test_a_killed_materialisation_is_done_again(features: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 3.0)))
    features.apply(view_of())

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(features.stores.events), "append", die)
        with pytest.raises(KeyboardInterrupt):
            features.materialise("view", T0)
    assert features.get("view").materialised_until is None
    assert features.materialise("view", T0).rows == 1
    assert online(features, "a", T0) == [3.0]


def test_both_databases_keep_definitions_and_progress(stores: Stores) -> None:
    features = FeatureStore(stores, Scope(), datasets=DatasetService(stores, Scope()))
    features.datasets.ingest("t", rows_of(("a", 0, 3.0), ("a", 5, 4.0)))
    view = view_of(ttl=9 * HOUR)
    assert features.apply(view, FeatureService("s", [view])) == features.apply(view) == ("feature:view@1",)
    features.materialise("view", T0 + HOUR)
    features.datasets.ingest("t", rows_of(("b", 2, 5.0)), mode="append")
    assert features.materialise("view", T0 + 5 * HOUR).rows == 2
    assert [row["v"] for row in features.online("s", [{"key": "a"}, {"key": "b"}], T0 + 5 * HOUR)] == [4.0, 5.0]
    record = features.get("view")
    assert (record.materialised_until, record.materialised_from) == (T0 + 5 * HOUR, "dataset:t@2")
    assert features.apply(view_of()) == ("feature:view@2",)
    assert features.get("view").materialised_until is None


@pytest.mark.redis
def test_features_come_from_redis_just_the_same(
    make_sqlite_stores: Any, tmp_path: Any, redis_url: str, clock: ManualClock
) -> None:
    from loopwright.core import Settings

    stores = make_sqlite_stores(tmp_path / "redis", clock=clock, settings=Settings(online=redis_url))
    features = FeatureStore(stores, Scope(), datasets=DatasetService(stores, Scope()))
    features.datasets.ingest("t", rows_of(("a", 0, 3.0), ("b", 1, 4.0)))
    features.apply(view_of())
    features.materialise("view", T0 + HOUR)
    assert online(features, "bax", T0 + HOUR) == [4.0, 3.0, None]
