"""The point-in-time join agrees with a plain loop, for any rows and any spine, whole or in chunks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.features.model import Row, value_at

from loopwright.features import Entity, FeatureView
from loopwright.features.computing import check_keys, feature_rows, seen_between, utc
from loopwright.features.joining import Joinable, join_chunks
from loopwright.features.materialising import newest

START = datetime(2020, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
MOMENTS = st.none() | st.integers(0, 12).map(lambda hours: START + timedelta(hours=hours))
KEYS = st.none() | st.sampled_from(["a", "b", "c"])
ROWS = st.lists(st.builds(Row, KEYS, MOMENTS, MOMENTS, st.none() | st.integers(0, 5)), max_size=25)
SPINE = st.lists(st.tuples(KEYS, MOMENTS), max_size=15)
TTLS = st.none() | st.integers(1, 5).map(lambda hours: timedelta(hours=hours))


def view_of(uses_known: bool, ttl: timedelta | None) -> FeatureView:
    known = "known" if uses_known else None
    return FeatureView("v", Entity("thing", ["key"]), "t", "at", ["value"], ttl=ttl, known_at=known)


def frame_of(rows: list[Row]) -> pl.LazyFrame:
    schema = {"key": pl.String, "at": TIME, "known": TIME, "value": pl.Int64}
    return pl.LazyFrame([tuple(row) for row in rows], schema=schema, orient="row")


def join(
    rows: pl.LazyFrame, view: FeatureView, spine: list[tuple[Any, Any]], as_of: datetime | None, max_rows: int
) -> list[Any]:
    asked = pl.LazyFrame(spine, schema={"key": pl.String, "t": TIME}, orient="row")
    found = seen_between(feature_rows(view, rows), None, as_of)
    types = dict(asked.collect_schema())
    casts = check_keys(view, types, {"key": pl.String()})
    joinable = Joinable(found, ["key"], casts, {"value": "out"}, view.ttl)
    chunks = list(join_chunks(asked, utc(pl.col("t"), types["t"]), [joinable], max_rows))
    if not chunks:
        assert not spine
        return []
    joined = pl.concat(chunks)
    assert joined.select("key", "t").rows() == spine  # nothing lost, in order
    return joined["out"].to_list()


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(rows=ROWS, spine=SPINE, ttl=TTLS, uses_known=st.booleans(), as_of=MOMENTS, order=st.randoms())
def test_the_join_agrees_with_a_plain_loop(
    rows: list[Row], spine: list[tuple[Any, Any]], ttl: timedelta | None, uses_known: bool, as_of: Any, order: Any
) -> None:
    view = view_of(uses_known, ttl)
    shuffled = list(rows)
    order.shuffle(shuffled)
    given_rows = {"ttl": ttl, "as_of": as_of, "uses_known": uses_known}
    expected = [value_at(rows, key, moment, **given_rows) for key, moment in spine]
    for max_rows in (1_000, 1, 2, 5):
        assert join(frame_of(shuffled), view, spine, as_of, max_rows) == expected, max_rows


@pytest.mark.slow
@settings(max_examples=examples(150), deadline=None)
@given(rows=ROWS, later=ROWS, spine=SPINE, moment=st.integers(0, 12))
def test_what_becomes_known_later_changes_nothing(
    rows: list[Row], later: list[Row], spine: list[tuple[Any, Any]], moment: int
) -> None:
    limit = START + timedelta(hours=moment)
    late = [row._replace(known=limit + timedelta(hours=1 + place)) for place, row in enumerate(later)]
    early = [(key, at) for key, at in spine if at is not None and at <= limit]
    view = view_of(True, None)
    before = join(frame_of(rows), view, early, None, 1_000)
    assert join(frame_of(rows + late), view, early, None, 1_000) == before
    assert join(frame_of(rows + late), view, early, None, 2) == before


@settings(max_examples=examples(150), deadline=None)
@given(rows=ROWS, uses_known=st.booleans(), until=st.integers(0, 13), max_rows=st.sampled_from([1, 3, 1_000]))
def test_the_newest_rows_are_those_that_a_join_at_that_moment_takes(
    rows: list[Row], uses_known: bool, until: int, max_rows: int
) -> None:
    moment, view = START + timedelta(hours=until), view_of(uses_known, None)
    found = newest(seen_between(feature_rows(view, frame_of(rows)), None, moment), view, max_rows)
    expected = {key: value_at(rows, key, moment, uses_known=uses_known) for key in "abc"}
    assert {key: found.filter(pl.col("key") == key)["value"].sum() or None for key in "abc"} == {
        key: value or None for key, value in expected.items()
    }
    assert found["key"].is_unique().all()


def test_a_correction_counts_from_when_it_was_known() -> None:
    hour = timedelta(hours=1)
    rows = [
        Row("a", START, START, 1),
        Row("a", START + 2 * hour, START + 5 * hour, 2),
        Row("a", START + 3 * hour, START + 3 * hour, 3),
        Row("a", START + 3 * hour, START + 6 * hour, 4),
    ]
    view = view_of(True, None)
    spine = [("a", START + place * hour) for place in range(8)]
    assert join(frame_of(rows), view, spine, None, 100) == [1, 1, 1, 3, 3, 3, 4, 4]
    assert join(frame_of(rows), view, spine, START + 5 * hour, 100) == [1, 1, 1, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("max_rows", [1, 2, 3, 5, 100])
def test_a_row_counts_from_the_very_moment_that_it_is_seen(max_rows: int) -> None:
    rows = [Row(key, START + timedelta(hours=h), None, h) for h in range(8) for key in "ab"]
    spine = [(key, START + timedelta(hours=h)) for h in (2, 4, 7, 0, 3) for key in "ba"]
    expected = [h for h in (2, 4, 7, 0, 3) for _ in "ba"]
    assert join(frame_of(rows), view_of(False, None), spine, None, max_rows) == expected


def test_a_value_is_good_for_its_ttl_and_no_longer() -> None:
    rows = [Row("a", START, None, 7)]
    spine = [("a", START + timedelta(hours=h, microseconds=u)) for h, u in ((0, 0), (2, 0), (2, 1))]
    assert join(frame_of(rows), view_of(False, timedelta(hours=2)), spine, None, 100) == [7, 7, None]


@pytest.mark.slow
@pytest.mark.parametrize("max_rows", [1_000_000, 7_000])
def test_a_large_join_agrees_with_a_plain_search(max_rows: int) -> None:
    import bisect

    import numpy as np

    rng = np.random.default_rng(3)
    keys, times = rng.integers(0, 50, 40_000), rng.permutation(40_000)
    frame = pl.LazyFrame({"key": keys, "at": times, "value": np.arange(40_000)})
    frame = frame.with_columns(pl.col("key").cast(pl.String), (START + pl.duration(seconds=pl.col("at"))).alias("at"))
    asked_keys, asked_times = rng.integers(0, 60, 20_000), rng.integers(-10, 40_010, 20_000)
    spine = [(str(k), START + timedelta(seconds=int(t))) for k, t in zip(asked_keys, asked_times, strict=True)]
    by_key: dict[str, list[tuple[int, int]]] = {}
    for place in np.argsort(times):
        by_key.setdefault(str(keys[place]), []).append((int(times[place]), int(place)))
    expected = []
    for key, moment in zip(asked_keys, asked_times, strict=True):
        line = by_key.get(str(key), [])
        place = bisect.bisect_right(line, (int(moment), 1 << 60))
        expected.append(line[place - 1][1] if place else None)
    assert join(frame, view_of(False, None), spine, None, max_rows) == expected
