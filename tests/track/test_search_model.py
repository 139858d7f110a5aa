"""Searches against a plain Python model of the filter language, on both databases."""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.track.databases import fresh_stores

from loopwright.core import Invalid, ManualClock, NotFound, Scope, new_id
from loopwright.track import ExperimentService, Run, RunInput, RunService, View
from loopwright.track.search.counting import STATUS
from loopwright.track.search.held import held_runs_of
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.matching import in_order as in_order_without_database
from loopwright.track.search.matching import matches
from loopwright.track.search.query import Question, search_found
from loopwright.track.search.scanning import search_held
from loopwright.track.search.words import Comparison, Entity, Operator, SortKey

TEXTS = ["", "a", "A", "ab", "aB", "a%b", "a_b", "[a]", "a*b", "é", "\\", "x" * 120, "x" * 120 + "y", "\U0001f600", "Z"]
NUMBERS = [-1.5, 0.0, 0.5, 1.0, 1e300, math.inf, -math.inf]
KEYS = ["k", "other key", "rare"]
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
Filled = tuple[RunService, list[Run]]


def fill(runs: RunService, clock: ManualClock) -> list[Run]:
    """Sixty runs that differ in everything that a filter can ask for."""
    for number in range(60):
        clock.advance(max(clock.now(), START + timedelta(microseconds=number // 2 * 700)))
        run = runs.start(
            "even" if number % 2 == 0 else "odd",
            f"run {TEXTS[number % 11]}",
            params={KEYS[number % 2]: TEXTS[number % len(TEXTS)], "mixed": TEXTS[number % 4]},
            tags={"k": TEXTS[(number * 5) % len(TEXTS)]} if number % 3 else {},
            kind="trial" if number % 4 == 0 else "run",
        )
        if number % 5:
            runs.log_metrics(run.id, {"k": float(NUMBERS[number % len(NUMBERS)]), "rare": "NaN"})  # type: ignore[dict-item]
        if number % 4 == 1:
            runs.log_metrics(run.id, {"mixed": "NaN" if number % 8 == 1 else NUMBERS[number % 3]})
        if number % 6 == 0:
            name = ("flights", "Weather")[number % 4 == 0]
            runs.log_inputs(
                run.id, [RunInput(f"dataset:{name}@{number}", "train" if number % 12 else "test", f"d{number % 5}")]
            )
        if number % 12 == 0:
            runs.log_inputs(run.id, [RunInput("dataset:flights@99", "", "d9"), RunInput("model:m@1", "base")])
        if number % 7 == 0:
            clock.advance(clock.now() + timedelta(microseconds=number * 9))
            runs.finish(run.id, ("finished", "failed", "killed")[number % 3])  # type: ignore[arg-type]  # as JSON gives it
    return [runs.get(run.id) for run in runs.search(limit=100)]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql-english", marks=pytest.mark.postgres)])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrations: tuple[str, ...]
) -> Iterator[Filled]:
    """On a PostgreSQL that sorts texts as English dictionaries do: a search must not."""
    with fresh_stores(request, tmp_path_factory.mktemp("search"), migrations) as stores:
        clock = ManualClock(START)
        stores.clock = clock
        runs = RunService(stores, Scope())
        yield runs, fill(runs, clock)


def like(value: str, pattern: str, any_case: bool) -> bool:
    """Case is ignored for A to Z only."""
    expression = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    flags = re.DOTALL | (re.IGNORECASE | re.ASCII if any_case else 0)
    return (
        re.fullmatch(
            ascii_lower(expression) if any_case else expression, ascii_lower(value) if any_case else value, flags
        )
        is not None
    )


def ascii_lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


TESTS: dict[Operator, Callable[[Any, Any], bool]] = {
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


def holds(run: Run, item: Comparison) -> bool:
    if item.entity is Entity.DATASET:
        return any(TESTS[item.operator](value, item.value) for value in dataset_values(run, item.key) if value)
    value = value_of(run, item.entity, item.key)
    if item.operator in (Operator.IS_NULL, Operator.IS_NOT_NULL):
        return (value is None) == (item.operator is Operator.IS_NULL)
    if isinstance(value, datetime):
        value = (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return value is not None and TESTS[item.operator](value, item.value)


def dataset_values(run: Run, key: str) -> list[str]:
    return [{"name": use.dataset, "digest": use.digest, "context": use.context}[key] for use in run.inputs]


def value_of(run: Run, entity: Entity, key: str) -> Any:
    match entity:
        case Entity.METRIC:
            return float(run.not_finite[key]) if key in run.not_finite else run.metrics.get(key)
        case Entity.PARAM:
            return run.params.get(key)
        case Entity.TAG:
            return run.tags.get(key)
    if key == "artifact_uri":
        return f"mlflow-artifacts:/{run.experiment_id}/{run.id}/artifacts"
    value = getattr(run, key)
    return str(value) if key == "status" else value


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


COMPARE = ["=", "!=", "<", "<=", ">", ">="]
BASE_MS = int(START.timestamp() * 1000)
number_tests = st.tuples(
    st.sampled_from(["metrics.k", "metrics.rare", "metrics.never", "metric.mixed"]),
    st.sampled_from(COMPARE),
    st.sampled_from([repr(number) for number in NUMBERS if math.isfinite(number)]),
).map(" ".join)
time_tests = st.tuples(
    st.sampled_from(["start_time", "attributes.end_time", "created"]),
    st.sampled_from(COMPARE),
    st.one_of(
        st.integers(-3, 25).map(lambda ms: str(BASE_MS + ms)),
        st.sampled_from([f"{BASE_MS + 3}.5", "0", "-1", "1e300", "-1e300"]),
    ),
).map(" ".join)
presence_tests = st.tuples(
    st.sampled_from(["params.k", "params.never", "tags.k", "metrics.k", "metrics.rare", "metrics.mixed", "end_time"]),
    st.sampled_from(["IS NULL", "is not null"]),
).map(" ".join)
subjects = st.sampled_from(
    ["params.k", "params.`other key`", "params.mixed", "tags.k", "tags.never", "name", "kind", "status", "user_id",
     "run_id", "artifact_uri", "dataset.name", "dataset.digest", "datasets.context"]
)  # fmt: skip
words = ["finished", "FINISHED", "run", "run a", "flights", "Weather", "d0", "train", "user:local"]
patterns = st.one_of(
    st.sampled_from([*TEXTS, *words]),
    st.text(alphabet="aAbB%_*?[]x\\éÉ", max_size=6),
    st.sampled_from(["run%", "%i%", "RUN A", "fl%", "%r", "mlflow%", "x%", "%/artifacts", "\ud7ff%", "\U0010ffff%"]),
)
text_tests = st.tuples(subjects, st.sampled_from(["=", "!=", "LIKE", "ILIKE"]), patterns.map(quoted)).map(" ".join)
list_tests = st.tuples(
    subjects,
    st.sampled_from(["IN", "NOT IN"]),
    st.lists(st.sampled_from([*TEXTS, *words]), min_size=1, max_size=4).map(
        lambda items: f"({', '.join(map(quoted, items))})"
    ),
).map(" ".join)
filters = st.lists(st.one_of(number_tests, time_tests, presence_tests, text_tests, list_tests), max_size=3).map(
    " and ".join
)
orders = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "metrics.k",
                "metrics.rare",
                "metrics.mixed",
                "metrics.never",
                "params.k",
                "params.mixed",
                "tags.k",
                "start_time",
                "end_time",
                "name",
                "status",
                "kind",
            ]
        ),
        st.sampled_from(["", " DESC"]),
    ),
    max_size=3,
    unique_by=lambda item: item[0],
).map(lambda items: tuple(map("".join, items)))
sizes = st.integers(4, 25)  # of pages: smaller ones mean many more searches, so they are left to chosen examples
property_settings = settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@property_settings
@given(text=filters)
def test_a_search_finds_what_the_model_finds(filled: Filled, text: str) -> None:
    runs, everything = filled
    expected = [run.id for run in everything if all(holds(run, item) for item in parse_filter(text))]
    assert [run.id for run in runs.search(text, limit=100)] == expected


@pytest.mark.parametrize("key", ["name", "digest", "context"])
def test_each_word_of_a_dataset_is_found_without_a_database(filled: Filled, key: str) -> None:
    _, everything = filled
    values = {value for run in everything for value in dataset_values(run, key) if value}
    assert len(values) > 1
    for value in values:
        [asked] = parse_filter(f"dataset.{key} = '{value}'")
        expected = [run.id for run in everything if holds(run, asked)]
        assert [run.id for run in everything if matches(run, [asked])] == expected != []


def in_order(runs: list[Run], keys: tuple[SortKey, ...]) -> list[str]:
    """Newest first, then a stable sort by each key, the last one first: values, then NaN, then what has none."""

    def state(run: Run, key: SortKey) -> int:
        value = value_of(run, key.entity, key.key)
        return 2 if value is None else 1 if value != value else 0

    for key in reversed(keys):
        values = sorted(
            {value_of(run, key.entity, key.key) for run in runs if state(run, key) == 0}, reverse=key.descending
        )
        rank = {value: at for at, value in enumerate(values)}
        runs = sorted(runs, key=lambda run: (state(run, key), rank.get(value_of(run, key.entity, key.key), 0)))
    return [run.id for run in runs]


@pytest.mark.slow
@property_settings
@given(text=filters, order=orders)
def test_records_are_found_without_a_database_as_with_one(filled: Filled, text: str, order: tuple[str, ...]) -> None:
    _, everything = filled
    asked, keys = parse_filter(text), parse_order(order)
    expected = [run for run in everything if all(holds(run, item) for item in asked)]
    found = in_order_without_database([run for run in everything if matches(run, asked)], keys)
    assert [run.id for run in found] == in_order(expected, keys)


@pytest.mark.slow
@property_settings
@given(text=filters, order=orders, size=sizes, by_token=st.booleans())
@example(text="", order=("metrics.mixed DESC", "params.mixed"), size=1, by_token=True)
@example(text="", order=("end_time",), size=1, by_token=False)
def test_pages_follow_each_other_in_the_models_order(
    filled: Filled, text: str, order: tuple[str, ...], size: int, by_token: bool
) -> None:
    runs, everything = filled
    matching = [run for run in everything if all(holds(run, item) for item in parse_filter(text))]
    got: list[str] = []
    after = ""
    while True:
        page = runs.search_page(text, limit=size, after=after, order_by=order)
        got += [run.id for run in page.runs]
        if not page.next:
            break
        assert len(page.runs) == size
        after = page.next if by_token else got[-1]
    assert got == in_order(matching, parse_order(order))


HELD = {(Entity.ATTRIBUTE, "status"), (Entity.ATTRIBUTE, "kind"), (Entity.ATTRIBUTE, "name")}
HELD |= {(Entity.METRIC, key) for key in ("k", "rare", "mixed", "never")}
HELD |= {(entity, key) for entity in (Entity.PARAM, Entity.TAG) for key in (*KEYS, "mixed", "never")}
HELD_ORDERS = ["metrics.k", "metrics.rare", "metrics.mixed", "metrics.never", "start_time"]
held_tests = st.tuples(
    st.sampled_from(
        ["params.k", "params.`other key`", "params.mixed", "tags.k", "tags.never", "name", "kind", "status"]
    ),
    st.sampled_from(["=", "!=", "LIKE", "ILIKE"]),
    patterns.map(quoted),
).map(" ".join)


@pytest.mark.slow
@property_settings
@given(
    text=st.lists(st.one_of(number_tests, time_tests, presence_tests, held_tests), max_size=3).map(" and ".join),
    order=st.lists(
        st.tuples(st.sampled_from(HELD_ORDERS), st.sampled_from(["", " DESC"])),
        max_size=3,
        unique_by=lambda item: item[0],
    ).map(lambda items: tuple(map("".join, items))),
    size=sizes,
    experiment=st.sampled_from([None, "even", "none"]),
)
@example(text="", order=("metrics.mixed DESC",), size=1, experiment=None)
def test_arrays_in_memory_give_the_pages_and_tokens_of_the_database(
    filled: Filled, text: str, order: tuple[str, ...], size: int, experiment: str | None
) -> None:
    runs, everything = filled
    database, after = runs.stores.db, ""
    held = held_runs_of(database, 1_000_000)
    held.load(HELD)
    ids = {run.experiment: run.experiment_id for run in everything}
    chosen = None if experiment is None else (ids.get(experiment, "0" * 32),)
    while True:
        asked = Question("default", text, chosen, order_by=order, limit=size, after=after)
        with database.read() as connection:
            found = search_held(held, database, connection, asked)
            expected = search_found(database, connection, asked)
        assert found == expected if "end_time" not in text else found is None
        after = expected[1]
        if not after:
            break


def test_the_runs_of_experiments_are_counted_in_memory_as_in_the_database(filled: Filled) -> None:
    runs, everything = filled
    gone = runs.start("even", "gone").id
    runs.delete(gone)
    held_runs_of(runs.stores.db, 1_000_000).load({STATUS})
    service = ExperimentService(runs.stores, Scope())
    with runs.stores.db.read() as connection:
        expected = service._counted(connection)
    assert service.counts() == expected
    for counts in expected:
        mine = [run for run in everything if run.experiment_id == counts.experiment_id]
        assert counts.by_status == dict(sorted(Counter(run.status.value for run in mine).items()))
        assert counts.newest == max(run.started_at for run in mine)


def test_a_search_stays_in_its_experiment(filled: Filled) -> None:
    runs, everything = filled
    assert {run.experiment for run in runs.search(experiment="even", limit=100)} == {"even"}
    assert len(runs.search(experiment="even", limit=100)) == sum(run.experiment == "even" for run in everything)
    ids = {run.experiment: run.experiment_id for run in everything}
    assert [run.id for run in runs.search(experiments=list(ids.values()), limit=100)] == [run.id for run in everything]
    assert {run.experiment for run in runs.search(experiments=[ids["odd"], new_id()], limit=100)} == {"odd"}
    assert runs.search(experiments=[]) == []
    assert runs.search(experiment="even", experiments=[ids["odd"]]) == []
    with pytest.raises(NotFound, match="no experiment"):
        runs.search(experiment="none")


def test_a_page_needs_a_size_and_a_place(filled: Filled) -> None:
    runs, _ = filled
    for limit in (0, -1, 50_001):
        with pytest.raises(Invalid, match="cannot be given"):
            runs.search(limit=limit)
    with pytest.raises(NotFound, match="no run"):
        runs.search(after=new_id())


def test_a_page_token_cannot_be_changed_or_carried_to_another_search(filled: Filled) -> None:
    runs, _ = filled
    order = ("params.mixed DESC",)
    token = runs.search_page("kind != 'x'", limit=3, order_by=order).next
    assert runs.search_page("kind != 'x'", limit=3, order_by=order, after=token).runs
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    changed = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode() for at in range(len(raw))
    ]
    for bad in [*changed, token[:-2], token + "AA", "AAAA", "é", " ", "1", "'; DROP TABLE runs", "A" * 200_000]:
        with pytest.raises(Invalid, match="page token"):
            runs.search_page("kind != 'x'", limit=3, order_by=order, after=bad)
    for other in ({"filter": "kind != 'y'"}, {"order_by": ()}, {"view": View.ALL}, {"experiment": "even"}):
        with pytest.raises(Invalid, match="page token"):
            runs.search_page(**{"filter": "kind != 'x'", "order_by": order, "limit": 3, "after": token, **other})  # type: ignore[arg-type]  # one of several


def test_a_page_goes_on_where_it_ended_though_its_last_run_has_changed(filled: Filled) -> None:
    runs, _ = filled
    for value in range(6):
        runs.log_metrics(runs.start("moving").id, {"moving": float(value)})
    first = runs.search_page(experiment="moving", limit=2, order_by=("metrics.moving DESC",))
    runs.log_metrics(first.runs[-1].id, {"moving": -5.0}, step=1)
    second = runs.search_page(experiment="moving", limit=2, order_by=("metrics.moving DESC",), after=first.next)
    assert [run.metrics["moving"] for run in second.runs] == [3.0, 2.0]
    for run in runs.search(experiment="moving"):
        runs.delete(run.id)


def test_experiments_are_paged_newest_first(filled: Filled) -> None:
    runs, _ = filled
    first = runs.experiments(limit=1)
    assert [item.name for item in runs.experiments(limit=5, after=first[0].id)][-1] == "even"
