"""Suites: what each check finds, in one query; reports, events, quarantine."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import Conflict, Invalid, NotFound, encode
from loopwright.data import (
    Check,
    DatasetService,
    Suite,
    between,
    column_types,
    expression,
    freshness,
    in_set,
    matches,
    no_missing_columns,
    not_null,
    row_count,
    suite,
    unique,
)
from loopwright.data.checks.judge import run_suite

NOW = datetime(2020, 1, 2, tzinfo=UTC)
FRAME = pl.DataFrame(
    {
        "id": [1, 2, 2, 4, None, None],
        "x": [0.0, 1.0, float("nan"), 99.0, None, -1.0],
        "code": ["AA", "BB", "zz", "AA1", None, ""],
        "day": [date(2020, 1, d) for d in range(1, 7)],
        "at": [datetime(2020, 1, 1, h, tzinfo=UTC) for h in range(6)],
    }
)


def found(check: Check, frame: pl.DataFrame = FRAME) -> Any:
    _, (result,) = run_suite(frame.lazy(), suite("s", [check]), NOW)
    return result


@pytest.mark.parametrize(
    ("check", "failing"),
    [
        (not_null("id"), [4, 5]),
        (not_null("id", "x"), [4, 5]),
        (unique("id"), [1, 2]),
        (unique("id", "code"), []),
        (between("x", 0, 1), [2, 3, 5]),
        (between("x", low=0), [2, 5]),
        (between("day", "2020-01-02", "2020-01-05"), [0, 5]),
        (between("at", high="2020-01-01T04:00:00+00:00"), [5]),
        (between("at", high=datetime(2020, 1, 1, 4, tzinfo=UTC)), [5]),
        (in_set("code", ["AA", "BB", ""]), [2, 3]),
        (in_set("id", [1, 2]), [3]),
        (matches("code", "[A-Z]{2}"), [2, 3, 5]),
        (expression("x >= 0", name="e"), [5]),
        (expression(pl.col("x").is_nan() | (pl.col("x") < 50), name="e"), [3]),
    ],
)
def test_checks_of_rows(check: Check, failing: list[int]) -> None:
    result = found(check)
    assert result.failing_rows == len(failing)
    assert result.fraction == pytest.approx(len(failing) / 6)
    assert result.passed == (not failing)
    days = {row["day"] for row in result.sample}
    assert days == {str(FRAME["day"][place]) for place in failing[:5]}


@pytest.mark.parametrize(
    ("check", "passed", "message"),
    [
        (row_count(6, 6), True, "6 rows; wanted from 6 to 6"),
        (row_count(7), False, "6 rows; wanted at least 7"),
        (column_types({"id": "int64", "x": "float64"}), True, "all columns"),
        (column_types({"id": "string", "gone": "int64"}), False, "'id' is int64, not string; 'gone' is missing"),
        (no_missing_columns("id", "gone"), False, "missing: gone"),
        (freshness("at", timedelta(hours=19)), True, "68400 s old"),
        (freshness("at", timedelta(hours=18)), False, "wanted at most 64800 s"),
        (freshness("code", timedelta(hours=18)), False, "not a time"),
        (not_null("gone"), False, "no column 'gone'"),
        (expression("gone > 1", name="e"), False, "no column 'gone'"),
    ],
)
def test_checks_of_the_table(check: Check, passed: bool, message: str) -> None:
    result = found(check)
    assert result.passed is passed
    assert message in result.message
    assert result.failing_rows is None


def test_a_share_of_failing_rows_can_be_tolerated() -> None:
    assert found(not_null("id", tolerate=0.34)).passed
    assert not found(not_null("id", tolerate=0.33)).passed


def test_an_empty_table_passes_checks_of_rows_and_fails_counts() -> None:
    assert found(not_null("id"), FRAME.head(0)).passed
    assert not found(row_count(), FRAME.head(0)).passed
    assert not found(freshness("at", timedelta(days=1)), FRAME.head(0)).passed


def test_a_check_that_does_not_fit_its_column_is_named() -> None:
    with pytest.raises(Invalid, match=r"between\(code\).*of suite 's' does not fit") as caught:
        found(between("code", 1, 2))
    assert caught.value.next_step
    with pytest.raises(Invalid, match="values of in_set"):
        found(in_set("day", ["x"]))
    with pytest.raises(Invalid, match="there is no check 'magic'"):
        found(Check("magic"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: between("x"),
        lambda: not_null("x", tolerate=2),
        lambda: not_null("x", severity="fatal"),
        lambda: not_null(),
        lambda: suite("s", [not_null("x"), not_null("x")]),
        lambda: expression("x >", name="e"),
        lambda: expression(pl.col("x").map_batches(lambda x: x > 0), name="e"),
    ],
)
def test_malformed_checks_are_refused_when_they_are_declared(wrong: Any) -> None:
    with pytest.raises(Invalid):
        wrong()


@settings(max_examples=examples(60), deadline=None)
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(-3, 3), st.none() | st.sampled_from("abc")), max_size=20),
    low=st.integers(-3, 3),
)
def test_counts_are_those_of_a_plain_loop(rows: list[tuple[int | None, str | None]], low: int) -> None:
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "s": pl.String}, orient="row")
    checks = [not_null("n"), unique("n"), unique("n", "s"), between("n", low, 2), in_set("s", ["a", "b"])]
    count, results = run_suite(frame.lazy(), suite("s", checks), NOW)
    numbers, pairs = [n for n, _ in rows], [row for row in rows if None not in row]
    assert count == len(rows)
    assert [result.failing_rows for result in results] == [
        numbers.count(None),
        sum(1 for n in numbers if n is not None and numbers.count(n) > 1),
        sum(1 for pair in pairs if pairs.count(pair) > 1),
        sum(1 for n in numbers if n is not None and not low <= n <= 2),
        sum(1 for _, s in rows if s == "c"),
    ]


def test_all_checks_are_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    collected = []
    original = pl.LazyFrame.collect
    monkeypatch.setattr(pl.LazyFrame, "collect", lambda self, **given: collected.append(1) or original(self, **given))
    checks = [not_null("day"), unique("day"), between("id", 0, 9), row_count(1), freshness("at", timedelta(days=9))]
    run_suite(FRAME.lazy(), suite("s", checks), NOW)
    assert len(collected) == 1


def test_a_report_is_kept_and_told(datasets: DatasetService) -> None:
    made = datasets.ingest("t", FRAME)
    mine = suite("basic", [not_null("id"), between("x", 0, 1, severity="warn"), row_count(1)])
    datasets.save_suite(mine)
    report = datasets.check("t", "basic")
    assert not report.passed
    assert [result.passed for result in report.results] == [False, False, True]
    assert datasets.check("t", suite("warn", [between("x", 0, 1, severity="warn")])).passed
    assert [kept.suite for kept in datasets.checks("t")] == ["warn", "basic"]
    assert datasets.checks("t")[1].results[0].sample[0]["id"] is None
    (first, _) = datasets.stores.events.read(kinds=["dataset.checked"])
    assert (first.subject, first.evidence["passed"], first.evidence["report"]) == (made.ref, False, report.id)
    assert first.evidence["failed"][0]["check"] == "not_null(id)"
    with pytest.raises(NotFound, match="no suite 'none'"):
        datasets.check("t", "none")


def test_a_saved_suite_is_the_same_suite(datasets: DatasetService) -> None:
    mine = suite(
        "all",
        [
            between("at", low=datetime(2020, 1, 1, tzinfo=UTC)),
            expression(pl.col("x") < 50, name="polars"),
            expression("x < 50", name="sql"),
            freshness("at", timedelta(hours=1), severity="warn"),
        ],
    )
    datasets.save_suite(mine)
    again = datasets.suite("all")
    assert isinstance(again, Suite)
    assert datasets.suites() == ["all"]
    before, after = (run_suite(FRAME.lazy(), one, NOW) for one in (mine, again))
    assert encode(before) == encode(after)  # as JSON, in which NaN equals itself


def test_quarantine_parts_good_rows_from_bad(datasets: DatasetService) -> None:
    made = datasets.ingest("t", FRAME)
    mine = suite("s", [not_null("id"), unique("id"), matches("code", "[A-Z]*", severity="warn"), row_count(1)])
    parts = datasets.quarantine("t", mine)
    assert parts.rows == 4
    assert datasets.read(parts.clean.ref)["id"].sort().to_list() == [1, 4]
    assert parts.quarantined is not None
    bad = datasets.read(parts.quarantined.ref)
    assert bad.columns[-1] == "_failed_checks"
    assert sorted(bad["_failed_checks"].to_list()) == [["not_null(id)"]] * 2 + [["unique(id)"]] * 2
    upstream = datasets.stores.lineage.trace(parts.clean.ref, "up")
    assert made.ref in [node.ref for node in upstream.nodes]
    assert datasets.quarantine("t", mine).quarantined is None
    with pytest.raises(Conflict, match="not the newest"):
        datasets.quarantine("t@1", mine)
    with pytest.raises(Invalid, match="no check of rows"):
        datasets.quarantine("t", suite("s", [row_count(1)]))


@pytest.mark.slow
def test_the_real_flights_have_known_faults(datasets: DatasetService, flights_folder: Path) -> None:
    datasets.ingest("flights", flights_folder / "flights.csv.zip", null_values=["NA"])
    report = datasets.check(
        "flights",
        suite(
            "flights",
            [
                not_null("dep_time", name="departed"),
                not_null("tailnum", name="aircraft known"),
                in_set("origin", ["EWR", "JFK", "LGA"]),
                unique("time_hour", "carrier", "flight"),
                row_count(336_776, 336_776),
            ],
        ),
    )
    assert [result.failing_rows for result in report.results] == [8255, 2512, 0, 0, None]
    assert not report.passed
