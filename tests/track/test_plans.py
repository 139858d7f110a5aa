"""Searches and histories that can grow are answered from an index, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from tests.track.databases import fresh_stores

from loopwright.core import Conflict, Scope
from loopwright.store import Stores
from loopwright.track import MetricPoint, RunService, tables
from loopwright.track.collecting import refs_in_use
from loopwright.track.keys import intern_keys
from loopwright.track.lifecycle import ensure_experiment
from loopwright.track.search import held
from loopwright.track.values import to_bits

RUNS = 3000
LASTS = "ix_run_series_"
"""The index of last values: `last` on SQLite, `found` and `fresh` on PostgreSQL."""


@pytest.fixture(
    scope="module",
    params=["sqlite", "sqlite without statistics", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrations: tuple[str, ...]
) -> Iterator[RunService]:
    """Enough runs that a planner has a choice; params and metrics that tell them apart."""
    with fresh_stores(request, tmp_path_factory.mktemp("plans"), migrations) as stores:
        with stores.db.begin() as tx:
            _insert_runs(stores, tx)
        if request.param != "sqlite without statistics":
            with stores.db.begin() as tx:
                tx.execute(text("ANALYZE"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(held, "_ASKED_BEFORE", 1_000_000)  # what is held in memory asks nothing
            yield RunService(stores, Scope())


def _insert_runs(stores: Stores, tx: Connection) -> None:
    """Row by row through the service would take long; the rows are those that it writes."""
    now = stores.clock.now()
    experiments = [ensure_experiment(stores.db, tx, "default", f"e{number}", now).id for number in range(100)]
    keys = intern_keys(stores.db, tx, ["lr", "x", "team", "auc", "loss"])
    numbers = range(1, RUNS + 1)
    tx.execute(tables.runs.insert(), [_run(number, experiments[number % 100], now) for number in numbers])
    params = [(number, "lr", f"{number % 300}") for number in numbers] + [(number, "x", "1") for number in numbers]
    tags = [(number, "team", f"t{number % 200}") for number in numbers]
    for table, texts in ((tables.run_params, params), (tables.run_tags, tags)):
        rows = [{"run_seq": seq, "key_id": keys[key], "value": value, "head": value} for seq, key, value in texts]
        tx.execute(table.insert(), rows)
    values = [(number, "auc", number / RUNS) for number in numbers] + [(number, "loss", -1.0) for number in numbers]
    tx.execute(tables.run_series.insert(), [_series(seq, keys[key], value) for seq, key, value in values])
    if stores.db.dialect == "postgresql":  # all but one in fifty have ended
        tx.execute(text("UPDATE run_series SET found_value = last_value WHERE run_seq % 50 > 0"))


def _run(number: int, experiment: str, now: datetime) -> dict[str, Any]:
    return {
        "seq": number,
        "id": f"{number:032x}",
        "project": "default",
        "experiment_id": experiment,
        "name": f"run {number}",
        "kind": "run",
        "status": "running" if number % 100 == 0 else "finished",
        "actor": "user:local",
        "parent": f"{number % 50:032x}",
        "error": "",
        "started_at": now + timedelta(seconds=number),
    }


def _series(seq: int, key_id: int, value: float) -> dict[str, Any]:
    last = {"last_step": 0, "last_at": 0, "last_bits": to_bits(value), "last_value": value}
    return {"run_seq": seq, "key_id": key_id, **last}


def statements(stores: Stores, call: Any) -> list[tuple[str, Any]]:
    """The SELECTs that a call sends, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            seen.append((statement, values))

    engine = stores.db._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        call()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return seen


def plan(stores: Stores, statement: str, values: Any) -> str:
    prefix = "EXPLAIN QUERY PLAN " if stores.db.dialect == "sqlite" else "EXPLAIN "
    with stores.db.read() as connection:
        return "\n".join(str(row) for row in connection.exec_driver_sql(prefix + statement, values))


def _beginning_so(runs: RunService, start: str) -> None:
    with pytest.raises(Conflict, match="several runs begin"):
        runs.get(start)


def _refs_in_use(stores: Stores, refs: list[str]) -> set[str]:
    with stores.db.read() as connection:
        return refs_in_use(connection, "default", refs)


SEARCHES = {
    "one param": ({"filter": "params.lr = '7'"}, ("ix_run_params_head",)),
    "one tag": ({"filter": "tags.team = 't7'"}, ("ix_run_tags_head",)),
    "a high metric": ({"filter": "metrics.auc > 0.99"}, (LASTS,)),
    "a metric and a param": (
        {"filter": "metrics.auc > 0.99 and params.lr = '299'"},
        (LASTS, "ix_run_params_head"),
    ),
    "a rare status": ({"filter": "status = 'running'"}, ("ix_runs_status",)),
    "one name": ({"filter": "name = 'run 3'"}, ("ix_runs_name",)),
    "children": ({"filter": f"parent = '{3:032x}'"}, ("ix_runs_parent",)),
    "the newest": ({"limit": 20}, ("ix_runs_started",)),
    "an experiment": ({"experiment": "e3", "limit": 20}, ("ix_runs_experiment",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_uses_its_index(filled: RunService, name: str) -> None:
    arguments, indexes = SEARCHES[name]
    sent = statements(filled.stores, lambda: filled.search(**arguments))
    # On SQLite ranges of indexes are read first, up to a limit, too.
    shown = "\n".join(plan(filled.stores, *item) for item in sent if "sort_0" in item[0] or "LIMIT" in item[0])
    assert any(index in shown for index in indexes), shown
    assert "SCAN run_params" not in shown
    assert "SCAN run_series" not in shown


ORDERS = {
    "by a metric, best first": ({"order_by": ("metrics.auc DESC",)}, LASTS),
    "by a metric within a range of it": (
        {"filter": "metrics.auc > 0.5 and params.x = '1'", "order_by": ("metrics.auc ASC",)},
        LASTS,
    ),
    "by a param": ({"order_by": ("params.lr",)}, "ix_run_params_head"),
    "by a tag": ({"order_by": ("tags.team DESC",)}, "ix_run_tags_head"),
    "oldest first": ({"order_by": ("start_time ASC",)}, "ix_runs_started"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_walked_along_its_index(filled: RunService, name: str) -> None:
    arguments, index = ORDERS[name]
    sent = statements(filled.stores, lambda: filled.search(limit=5, **arguments))
    pages = [item for item in sent if "sort_0" in item[0]]
    assert len(pages) == 1, "the page is full before runs without a value are asked for"
    shown = plan(filled.stores, *pages[0])
    assert index in shown, shown
    if filled.stores.db.dialect == "sqlite":
        assert "TEMP B-TREE FOR ORDER BY" not in shown, shown


def test_ranges_are_met_where_few_runs_match(filled: RunService) -> None:
    arguments = {"filter": "metrics.auc > 0.98 and params.lr = '299' and tags.team = 't99'", "limit": 5}
    sent = statements(filled.stores, lambda: filled.search(**arguments))
    [(statement, values)] = [item for item in sent if "sort_0" in item[0]]
    shown = plan(filled.stores, statement, values)
    assert "SCAN runs" not in shown, shown
    assert "Seq Scan on runs" not in shown, shown


LOOKUPS: dict[str, Callable[[RunService], object]] = {
    "the contents of runs": lambda runs: runs.contents([f"{number:032x}" for number in range(1, 101)]),
    "runs by the beginning of an id": lambda runs: _beginning_so(runs, f"{3:031x}"),
    "runs of many ids": lambda runs: runs.search(f"run_id IN ({', '.join(repr(f'{n:032x}') for n in range(1, 101))})"),
    "refs in use": lambda runs: _refs_in_use(runs.stores, ["dataset:a@1", "dataset:b@1"]),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_a_lookup_by_ids_does_not_walk_the_project(filled: RunService, name: str) -> None:
    for statement, values in statements(filled.stores, lambda: LOOKUPS[name](filled)):
        shown = plan(filled.stores, statement, values)
        assert "(project=?)" not in shown, shown


@pytest.mark.parametrize("after_first", [False, True])
def test_the_page_behind_a_token_begins_in_the_index(filled: RunService, after_first: bool) -> None:
    order = ("metrics.auc DESC",)
    token = filled.search_page(limit=1000, order_by=order).next if after_first else ""
    sent = statements(filled.stores, lambda: filled.search(limit=5, order_by=order, after=token))
    [(statement, values)] = [item for item in sent if "sort_0" in item[0]]
    shown = plan(filled.stores, statement, values)
    assert LASTS in shown, shown
    if after_first and filled.stores.db.dialect == "sqlite":
        assert "last_value<?" in shown or "last_value>? AND last_value<?" in shown, shown


@pytest.mark.parametrize("limit", [5, 200])
def test_a_page_costs_the_same_number_of_queries_however_long(filled: RunService, limit: int) -> None:
    filled.search(limit=1)
    sent = statements(filled.stores, lambda: filled.search("metrics.auc > 0.5", limit=limit, order_by=("metrics.auc",)))
    assert len(sent) <= 10, [statement[:80] for statement, _ in sent]


def test_a_history_is_read_in_the_order_in_which_it_lies(filled: RunService) -> None:
    run = f"{5:032x}"
    for number in range(5, 35):
        filled.log_points(f"{number:032x}", [MetricPoint("auc", 0.5, step=step) for step in range(100)])
    filled.log_points(run, [MetricPoint("auc", 0.5, step=step) for step in range(100, 5000)])
    with filled.stores.db.begin() as tx:
        tx.execute(text("ANALYZE"))
    sent = statements(filled.stores, lambda: filled.history(run, "auc"))
    [(statement, values)] = [item for item in sent if "FROM run_points" in item[0]]
    shown = plan(filled.stores, statement, values)
    if filled.stores.db.dialect == "sqlite":
        assert "PRIMARY KEY (series_id=?" in shown
        assert "TEMP B-TREE" not in shown
    else:
        assert "pk_run_points" in shown


@pytest.mark.slow
def test_a_curve_finds_its_blocks_in_the_index_alone(filled: RunService) -> None:
    run = f"{6:032x}"
    for begin in range(0, 400_000, 20_000):
        filled.log_points(run, [MetricPoint("auc", 0.5, step=step) for step in range(begin, begin + 20_000)])
    sent = statements(filled.stores, lambda: filled.curve(run, ["auc"]))
    asked = [item for item in sent if "FROM run_blocks" in item[0]]
    assert [item for item in asked if "run_blocks.points" in item[0]] == [], "a curve of many points unpacks none"
    if filled.stores.db.dialect == "sqlite":
        assert "COVERING INDEX ix_run_blocks_range" in plan(filled.stores, *asked[0])


def test_the_declared_plan_helpers_see_a_scan(filled: RunService) -> None:
    statement = "SELECT * FROM run_params WHERE value = 'x'"
    shown = plan(filled.stores, statement, ())
    assert "SCAN run_params" in shown or "Seq Scan on run_params" in shown
