"""Several views brought online together: the same rows as one by one, their datasets read once, their progress noted
together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import Conflict, NotFound, Scope, new_id
from loopwright.data import DatasetService
from loopwright.features import Entity, FeatureStore, FeatureView, RequestView
from loopwright.features import sources as shared

T0 = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIME = pl.Datetime("us", "UTC")


def rows_of(*rows: tuple[str, float, float]) -> pl.DataFrame:
    """Rows as (key, hours after T0, value)."""
    frame = pl.DataFrame(rows, schema={"key": pl.String, "at": pl.Float64, "v": pl.Float64}, orient="row")
    return frame.with_columns((T0 + pl.duration(seconds=pl.col("at") * 3600)).cast(TIME).alias("at"))


def hourly_sum(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The sum of an entity's values of an hour."""
    return rows.group_by("key", "at").agg(pl.col("v").sum())


def hourly_most(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The greatest of all entities' values of an hour."""
    return rows.with_columns(v=pl.col("v").max().over("at")).unique(["key", "at"])


def views_of(dataset: str, prefix: str = "") -> list[FeatureView]:
    """Four views of a dataset: two that look back alike, one that looks back further, one without a transform."""
    thing = Entity("thing", ["key"])
    transforms = {"sum": (hourly_sum, HOUR), "most": (hourly_most, HOUR), "long": (hourly_sum, 3 * HOUR)}
    made = [
        FeatureView(f"{prefix}{name}", thing, dataset, "at", ["v"], transform=transform, lookback=lookback)
        for name, (transform, lookback) in transforms.items()
    ]
    return [*made, FeatureView(f"{prefix}plain", thing, dataset, "at", ["v"])]


@contextmanager
def counted_scans(datasets: DatasetService) -> Iterator[list[str]]:
    """Within this, the refs of the dataset versions that are read."""
    refs, scan = [], DatasetService.scan
    with pytest.MonkeyPatch.context() as patched:

        def noted(self: DatasetService, ref: str) -> pl.LazyFrame:
            refs.append(ref)
            return scan(self, ref)

        patched.setattr(type(datasets), "scan", noted)
        yield refs


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(0, 9)), max_size=6),
        st.sampled_from(["all", "one"]),
        st.integers(0, 22),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [True, False])
@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_course_agrees_with_offline(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch, in_memory: bool, steps: list[Any]
) -> None:
    if not in_memory:
        monkeypatch.setattr(shared, "_SHARED_VALUES", 1)
    dataset, highest = f"t{new_id()}", 0
    views = views_of(dataset, dataset)
    features.apply(*views)
    keys = pl.DataFrame({"key": ["a", "b", "c"]})
    for rows, which, until in steps:
        frame = rows_of(*[(key, float(hour), float(value)) for key, hour, value in rows])
        features.datasets.ingest(dataset, frame, mode="append")
        highest = max(highest, until)
        moment = T0 + highest * HOUR
        if which == "one":  # this view is then further than the others
            features.materialise(views[0].name, moment)
        features.materialise_all([view.name for view in views], moment)
        assert {view.name: features.skew(view.name, keys, moment).mismatches for view in views} == {
            view.name: {} for view in views
        }


def test_it_reports_what_one_by_one_reports(features: FeatureStore) -> None:
    def report_of(prefix: str, together: bool) -> list[tuple[Any, ...]]:
        names = [view.name for view in views_of("t", prefix)]
        moment = T0 + 90 * HOUR
        done = features.materialise_all(names, moment) if together else [features.materialise(n, moment) for n in names]
        return [(r.view.removeprefix(prefix), r.dataset, r.since, r.rows, r.keys, r.incremental) for r in done]

    features.datasets.ingest("t", rows_of(*[(key, hour, hour) for hour in range(50) for key in "ab"]))
    features.apply(*views_of("t", "x"), *views_of("t", "y"))
    assert report_of("x", together=True) == report_of("y", together=False)
    features.datasets.ingest("t", rows_of(("a", 49, 3.0), ("c", 51, 1.0)), mode="append")
    together = report_of("x", together=True)
    assert together == report_of("y", together=False)
    assert [each[-1] for each in together] == [True] * 4


def test_what_views_share_is_read_once(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 1.0)))
    views = [each for each in views_of("t") if each.lookback == HOUR]
    features.apply(*views)
    features.materialise_all(until=T0 + HOUR)
    features.datasets.ingest("t", rows_of(("a", 1, 1.0)), mode="append")
    with counted_scans(features.datasets) as refs:
        done = features.materialise_all(until=T0 + 2 * HOUR)
    assert [report.rows for report in done] == [2, 2]  # the new hour, and the last one again
    assert refs == ["dataset:t@2"]


def test_every_view_of_batch_is_meant_where_none_is_named(features: FeatureStore) -> None:
    assert features.materialise_all() == ()
    features.datasets.ingest("t", rows_of(("a", 0, 1.0)))
    features.apply(*views_of("t"), RequestView("r", {"x": "y + 1"}))
    assert sorted(report.view for report in features.materialise_all(until=T0)) == ["long", "most", "plain", "sum"]
    assert [report.view for report in features.materialise_all(["plain", "feature:sum", "plain"])] == ["plain", "sum"]
    with pytest.raises(Conflict, match="'r' is computed from requests"):
        features.materialise_all(["plain", "r"])
    with pytest.raises(NotFound, match="'moon'"):
        features.materialise_all(["plain", "moon"])


def test_progress_is_noted_for_all_or_for_none(features: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 3.0)))
    features.apply(*views_of("t"))
    write, written = type(features.stores.online).write, []

    def applied_anew_meanwhile(self: Any, place: str, rows: Any) -> None:
        write(self, place, rows)
        written.append(place)
        if len(written) == 3:
            features.apply(FeatureView("most", Entity("thing", ["key"]), "t", "at", ["v"]))

    with monkeypatch.context() as patched:
        patched.setattr(type(features.stores.online), "write", applied_anew_meanwhile)
        with pytest.raises(Conflict, match="'most' was applied anew meanwhile"):
            features.materialise_all(["sum", "most", "long", "plain"], T0)
    assert [record.materialised_until for record in features.list()] == [None] * 4
    assert features.stores.events.read(kinds=["feature_view.materialised"]) == []
    assert [report.rows for report in features.materialise_all(until=T0)] == [1] * 4
    assert features.online(["most:v"], [{"key": "a"}], T0)[0]["v"] == 3.0


def test_progress_is_each_projects_own(features: FeatureStore) -> None:
    features.datasets.ingest("t", rows_of(("a", 0, 3.0)))
    features.apply(*views_of("t"))
    scope = Scope(project="other")
    other = FeatureStore(features.stores, scope, datasets=DatasetService(features.stores, scope))
    assert other.materialise_all() == ()
    features.materialise_all(until=T0)
    assert len(features.stores.events.read(kinds=["feature_view.materialised"])) == 4
