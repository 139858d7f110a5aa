"""The search language: parsed as it is written, and refused with a place."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Invalid
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.words import EXPERIMENTS, Comparison, Entity, Operator, SortKey


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("metrics.auc > 0.9", (Comparison(Entity.METRIC, "auc", Operator.GT, 0.9),)),
        ("metric.auc>=-1e-3", (Comparison(Entity.METRIC, "auc", Operator.GE, -0.001),)),
        ("metrics.a/b.c-d:e < .5", (Comparison(Entity.METRIC, "a/b.c-d:e", Operator.LT, 0.5),)),
        ("metrics.`val acc` == 1", (Comparison(Entity.METRIC, "val acc", Operator.EQ, 1.0),)),
        ("params.\"lr\" = '0.1'", (Comparison(Entity.PARAM, "lr", Operator.EQ, "0.1"),)),
        ("params.x != 'it''s'", (Comparison(Entity.PARAM, "x", Operator.NE, "it's"),)),
        ("tags.k LIKE 'a%'", (Comparison(Entity.TAG, "k", Operator.LIKE, "a%"),)),
        ("tags.k ilike 'A_'", (Comparison(Entity.TAG, "k", Operator.ILIKE, "A_"),)),
        ("status = 'FINISHED'", (Comparison(Entity.ATTRIBUTE, "status", Operator.EQ, "finished"),)),
        ("attributes.run_name in ('a', \"b\")", (Comparison(Entity.ATTRIBUTE, "name", Operator.IN, ("a", "b")),)),
        ("attr.run_id NOT IN ('x')", (Comparison(Entity.ATTRIBUTE, "id", Operator.NOT_IN, ("x",)),)),
        ("params.lr IS NULL", (Comparison(Entity.PARAM, "lr", Operator.IS_NULL, None),)),
        ("tags.`a b` is not null", (Comparison(Entity.TAG, "a b", Operator.IS_NOT_NULL, None),)),
        ("end_time IS NULL", (Comparison(Entity.ATTRIBUTE, "ended_at", Operator.IS_NULL, None),)),
        ("datasets.name = 'flights'", (Comparison(Entity.DATASET, "name", Operator.EQ, "flights"),)),
        ("dataset.`digest` IN ('a')", (Comparison(Entity.DATASET, "digest", Operator.IN, ("a",)),)),
        ("dataset.context ILIKE 'train%'", (Comparison(Entity.DATASET, "context", Operator.ILIKE, "train%"),)),
        ("parameter.lr = '1'", (Comparison(Entity.PARAM, "lr", Operator.EQ, "1"),)),
        ("parameters.lr = '1'", (Comparison(Entity.PARAM, "lr", Operator.EQ, "1"),)),
        ("run.user_id = 'ann'", (Comparison(Entity.TAG, "mlflow.user", Operator.EQ, "ann"),)),
        ("attributes.`Run name` = 'a'", (Comparison(Entity.ATTRIBUTE, "name", Operator.EQ, "a"),)),
        ("artifact_uri LIKE '%x'", (Comparison(Entity.ATTRIBUTE, "artifact_uri", Operator.LIKE, "%x"),)),
        ("attributes.Created <= 5", (Comparison(Entity.ATTRIBUTE, "started_at", Operator.LE, 5.0),)),
        ("start_time > 1700000000000", (Comparison(Entity.ATTRIBUTE, "started_at", Operator.GT, 1.7e12),)),
        (
            "metrics.a > 1 AND params.b = 'and' and tags.c <> ' or '",
            (
                Comparison(Entity.METRIC, "a", Operator.GT, 1.0),
                Comparison(Entity.PARAM, "b", Operator.EQ, "and"),
                Comparison(Entity.TAG, "c", Operator.NE, " or "),
            ),
        ),
    ],
)
def test_filters_are_read_as_they_are_written(text: str, expected: tuple[Comparison, ...]) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("metrics.auc", "expected an operator"),
        ("metrics.auc >", "expected a number"),
        ("metrics.auc > '0.9'", "expected a number"),
        ("params.lr = 0.1", "expected a quoted text"),
        ("params.lr > '0.1'", "cannot be compared by >"),
        ("metrics.auc LIKE '1'", "cannot be compared by LIKE"),
        ("metrics.a > 1 OR metrics.b > 2", "OR and brackets are not supported"),
        ("(metrics.a > 1)", "expected metrics.KEY"),
        ("metrics.a > 1 and", "expected metrics.KEY"),
        ("metrics.a > 1 metrics.b > 2", "expected AND"),
        ("colour = 'red'", "no attribute 'colour'"),
        ("models.x = 'a'", "no 'models' to search by"),
        ("dataset.schema = 'a'", "no 'schema' to search by"),
        ("name IS NULL", "cannot be compared by IS NULL"),
        ("dataset.name IS NULL", "cannot be compared by IS NULL"),
        ("params.x IS", "expected NULL"),
        ("params.x = 'a\x00b'", "no text"),
        ("params.x = '\ud800'", "no text"),
        ("params.x = 'a' UNION SELECT 1", "expected AND"),
        ("params.x = 'open", "cannot be read"),
        ("params.x IN ('a'", r"expected '\)'"),
        ("params.x IN ()", "expected a quoted text"),
        ("metrics.a > 1; DROP TABLE runs", "cannot be read"),
        ("metrics.a > 1 -- x", "cannot be read"),
        ("(" * 10_000, "expected metrics.KEY"),
        ("params.x IN " + "(" * 10_000, "expected a quoted text"),
        ("metrics." * 2_000, "expected an operator"),
        ("metrics.a > 1" + " " * 30_000 + "and metrics.b > 1", "30,0.. characters; the limit is 20,000"),
        (" and ".join(["metrics.a > 1"] * 101), "more than 100 comparisons"),
    ],
)
def test_what_is_no_filter_is_refused(text: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        parse_filter(text)


def test_the_message_names_the_place() -> None:
    with pytest.raises(Invalid, match="filter, character 19"):
        parse_filter("metrics.a > 1 and colour = 'red'")


pieces = st.sampled_from(
    ["metrics.a", "params.`b c`", "status", ">", "=", "LIKE", "IN", "(", ")", ",", "1e3", "'x'", "and"]
)
sayings = st.text(max_size=60) | st.lists(pieces, max_size=8).map(" ".join)


@given(sayings)
def test_a_text_is_comparisons_or_is_refused_with_its_place(text: str) -> None:
    try:
        found = parse_filter(text)
    except Invalid as error:
        assert "filter, character" in str(error)  # noqa: PT017 (most texts are refused, and that is right too)
    else:
        assert bool(found) == bool(text.strip())
        assert all(isinstance(each, Comparison) for each in found)


@pytest.mark.parametrize(
    "part", ["(", "'", "`", '"', "a.", "metrics.a > 1 and ", "params.a in (", "'a',", " ", "é", "1", "--", "\\"]
)
def test_a_text_of_any_size_is_refused_or_read_in_linear_time(part: str) -> None:
    def seconds(size: int) -> float:
        started = time.process_time()
        with suppress(Invalid):
            parse_filter((part * size)[:size])
        return time.process_time() - started

    assert min(seconds(20_000) for _ in range(3)) < 0.25
    with pytest.raises(Invalid, match="the limit is 20,000"):
        parse_filter((part * 2_000_000)[:2_000_000])


def test_experiments_have_words_of_their_own() -> None:
    assert parse_filter("name LIKE 'a%' and tags.team = 'x' and last_update_time > 5", EXPERIMENTS) == (
        Comparison(Entity.ATTRIBUTE, "name", Operator.LIKE, "a%"),
        Comparison(Entity.TAG, "team", Operator.EQ, "x"),
        Comparison(Entity.ATTRIBUTE, "updated_at", Operator.GT, 5.0),
    )
    with pytest.raises(Invalid, match="no 'metrics' to search by"):
        parse_filter("metrics.a > 1", EXPERIMENTS)
    with pytest.raises(Invalid, match="experiments have no attribute 'status'"):
        parse_filter("status = 'a'", EXPERIMENTS)


@pytest.mark.parametrize(
    "text", ["metrics.auc UP", "metrics.auc DESC DESC", "", "auc", "metrics.a, metrics.b", "dataset.name"]
)
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_order((text,))


def test_an_order_names_a_key_once() -> None:
    with pytest.raises(Invalid, match="twice"):
        parse_order(("start_time", "attributes.created DESC"))


def test_orders_are_read_as_they_are_written() -> None:
    assert parse_order(("metrics.`a b` desc", "params.lr", "start_time ASC")) == (
        SortKey(Entity.METRIC, "a b", True),
        SortKey(Entity.PARAM, "lr"),
        SortKey(Entity.ATTRIBUTE, "started_at"),
    )
