"""The search language: parsed as written, refused with a place, and answered as a plain Python model would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.track.databases import fresh_stores

from loopwright.core import Invalid, NotFound, Scope, new_id
from loopwright.track import Run, RunService
from loopwright.track.search.language import (
    Comparison,
    Entity,
    Operator,
    SortKey,
    parse_filter,
    parse_order,
)

# ---- Parsing ------------------------------------------------------------------------------------------------------


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
        ("params.x = 'open", "cannot be read"),
        ("params.x IN ('a'", r"expected '\)'"),
        ("params.x IN ()", "expected a quoted text"),
        ("metrics.a > 1; DROP TABLE runs", "cannot be read"),
        ("metrics.a > 1 -- x", "cannot be read"),
        ("(" * 10_000, "expected metrics.KEY"),
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


@pytest.mark.parametrize("text", ["metrics.auc UP", "metrics.auc DESC DESC", "", "auc", "metrics.a, metrics.b"])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_order((text,))


def test_orders_are_read_as_they_are_written() -> None:
    assert parse_order(("metrics.`a b` desc", "params.lr", "start_time ASC")) == (
        SortKey(Entity.METRIC, "a b", True),
        SortKey(Entity.PARAM, "lr"),
        SortKey(Entity.ATTRIBUTE, "started_at"),
    )


# ---- Against a plain model ----------------------------------------------------------------------------------------

TEXTS = ["", "a", "A", "ab", "aB", "a%b", "a_b", "[a]", "a*b", "é", "\\", "x" * 120, "x" * 120 + "y"]
NUMBERS = [-1.5, 0.0, 0.5, 1.0, 1e300]
KEYS = ["k", "other key", "rare"]


Filled = tuple[RunService, list[Run]]


def fill(runs: RunService) -> list[Run]:
    """Forty runs that differ in everything that a filter can ask for."""
    for number in range(40):
        run = runs.start(
            "even" if number % 2 == 0 else "odd",
            f"run {TEXTS[number % 11]}",
            params={KEYS[number % 2]: TEXTS[number % len(TEXTS)]},
            tags={"k": TEXTS[(number * 5) % len(TEXTS)]} if number % 3 else {},
            kind="trial" if number % 4 == 0 else "run",
        )
        if number % 5:
            runs.log_metrics(run.id, {"k": NUMBERS[number % len(NUMBERS)], "rare": "NaN"})
        if number % 7 == 0:
            runs.finish(run.id, ("finished", "failed", "killed")[number % 3])  # type: ignore[arg-type]  # as JSON gives it
    return [runs.get(run.id) for run in runs.search(limit=100)]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrations: tuple[str, ...]
) -> Iterator[Filled]:
    with fresh_stores(request, tmp_path_factory.mktemp("search"), migrations) as stores:
        runs = RunService(stores, Scope())
        yield runs, fill(runs)


def like(value: str, pattern: str, any_case: bool) -> bool:
    expression = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if any_case else 0)) is not None


def holds(run: Run, item: Comparison) -> bool:
    value = value_of(run, item.entity, item.key)
    if value is None:
        return False
    tests: dict[Operator, Callable[[Any, Any], bool]] = {
        Operator.EQ: lambda a, b: a == b,
        Operator.NE: lambda a, b: a != b,
        Operator.LT: lambda a, b: a < b,
        Operator.LE: lambda a, b: a <= b,
        Operator.GT: lambda a, b: a > b,
        Operator.GE: lambda a, b: a >= b,
        Operator.LIKE: lambda a, b: like(a, b, any_case=False),
        Operator.ILIKE: lambda a, b: like(a, b, any_case=True),
        Operator.IN: lambda a, b: a in b,
        Operator.NOT_IN: lambda a, b: a not in b,
    }
    return tests[item.operator](value, item.value)


def value_of(run: Run, entity: Entity, key: str) -> Any:
    match entity:
        case Entity.METRIC:
            return run.metrics.get(key)
        case Entity.PARAM:
            return run.params.get(key)
        case Entity.TAG:
            return run.tags.get(key)
    value = getattr(run, key)
    return str(value) if key == "status" else value


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


number_tests = st.tuples(
    st.sampled_from(["metrics.k", "metrics.rare", "metrics.never"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(NUMBERS).map(repr),
).map(" ".join)
subjects = st.sampled_from(["params.k", "params.`other key`", "tags.k", "tags.never", "name", "kind", "status"])
patterns = st.one_of(
    st.sampled_from(TEXTS), st.text(alphabet="aAbB%_*?[]x\\é", max_size=6), st.sampled_from(["run%", "%i%", "RUN A"])
)
text_tests = st.tuples(subjects, st.sampled_from(["=", "!=", "LIKE", "ILIKE"]), patterns.map(quoted)).map(" ".join)
list_tests = st.tuples(
    subjects,
    st.sampled_from(["IN", "NOT IN"]),
    st.lists(st.sampled_from([*TEXTS, "finished", "run", "run a"]), min_size=1, max_size=4).map(
        lambda items: f"({', '.join(map(quoted, items))})"
    ),
).map(" ".join)
filters = st.lists(st.one_of(number_tests, text_tests, list_tests), max_size=3).map(" and ".join)
orders = st.lists(
    st.tuples(
        st.sampled_from(["metrics.k", "metrics.rare", "metrics.never", "start_time", "end_time"]),
        st.sampled_from(["", " DESC"]),
    ).map("".join),
    max_size=2,
).map(tuple)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=filters)
def test_a_search_finds_what_the_model_finds(filled: Filled, text: str) -> None:
    runs, everything = filled
    expected = [run.id for run in everything if all(holds(run, item) for item in parse_filter(text))]
    assert [run.id for run in runs.search(text, limit=100)] == expected


def in_order(runs: list[Run], keys: tuple[SortKey, ...]) -> list[str]:
    """A stable sort by each key, the last one first; runs without a value go last in both directions."""
    for key in reversed(keys):
        having = [run for run in runs if value_of(run, key.entity, key.key) is not None]
        without = [run for run in runs if value_of(run, key.entity, key.key) is None]
        having.sort(key=lambda run: value_of(run, key.entity, key.key), reverse=False)
        if key.descending:
            groups: dict[Any, list[Run]] = {}
            for run in having:
                groups.setdefault(value_of(run, key.entity, key.key), []).append(run)
            having = [run for value in sorted(groups, reverse=True) for run in groups[value]]
        runs = [*having, *without]
    return [run.id for run in runs]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=filters, order=orders, size=st.integers(1, 15))
def test_pages_follow_each_other_in_the_models_order(
    filled: Filled, text: str, order: tuple[str, ...], size: int
) -> None:
    runs, everything = filled
    matching = [run for run in everything if all(holds(run, item) for item in parse_filter(text))]
    got: list[str] = []
    while True:
        page = runs.search(text, limit=size, after=got[-1] if got else "", order_by=order)
        got += [run.id for run in page]
        if len(page) < size:
            break
    assert got == in_order(matching, parse_order(order))


def test_a_search_stays_in_its_experiment(filled: Filled) -> None:
    runs, everything = filled
    assert {run.experiment for run in runs.search(experiment="even", limit=100)} == {"even"}
    assert len(runs.search(experiment="even", limit=100)) == sum(run.experiment == "even" for run in everything)
    with pytest.raises(NotFound, match="no experiment"):
        runs.search(experiment="none")


def test_a_page_needs_a_size_and_a_place(filled: Filled) -> None:
    runs, _ = filled
    for limit in (0, -1, 10_001):
        with pytest.raises(Invalid, match="cannot be given"):
            runs.search(limit=limit)
    with pytest.raises(NotFound, match="no run"):
        runs.search(after=new_id())


def test_experiments_are_paged_newest_first(filled: Filled) -> None:
    runs, _ = filled
    first = runs.experiments(limit=1)
    assert [item.name for item in first] == ["odd"]
    assert [item.name for item in runs.experiments(limit=5, after=first[0].id)] == ["even"]
