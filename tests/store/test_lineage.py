"""Lineage: written once however often it is told, walked both ways."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from tests.examples import examples

from loopwright.core import NotFound
from loopwright.store import Edge, Lineage, Node, Stores
from loopwright.store.db import open_database
from loopwright.store.lineage import graph

CHAIN = [
    ("dataset:flights@1", "dataset:flights@2", "derived"),
    ("dataset:flights@2", "run:1", "input"),
    ("code:c", "run:1", "code"),
    ("run:1", "model:delay@1", "output"),
    ("run:1", "dataset:errors@1", "output"),
    ("bundle:b", "model:delay@1", "contains"),
    ("model:delay@1", "endpoint:delay", "serves"),
]


@pytest.fixture
def woven(stores: Stores) -> Stores:
    with stores.db.begin() as tx:
        stores.lineage.node(tx, "dataset:flights@1", digest="d1", attrs={"rows": 3})
        for source, target, role in CHAIN:
            stores.lineage.edge(tx, source, target, role)
    return stores


def refs(nodes: list[Node]) -> list[str]:
    return [node.ref for node in nodes]


def test_up_reaches_everything_it_came_from_nearest_first(woven: Stores) -> None:
    trace = woven.lineage.trace("endpoint:delay", "up")
    assert refs(trace.nodes) == [
        "endpoint:delay", "model:delay@1", "bundle:b", "run:1", "code:c", "dataset:flights@2", "dataset:flights@1",
    ]  # fmt: skip
    assert Edge("dataset:flights@2", "run:1", "input") in trace.edges
    assert len(trace.edges) == 6
    assert trace.nodes[-1] == Node("dataset:flights@1", "d1", "dataset", {"rows": 3})
    assert not trace.truncated


def test_down_reaches_everything_that_came_from_it(woven: Stores) -> None:
    trace = woven.lineage.trace("dataset:flights@1", "down")
    assert set(refs(trace.nodes)) == {
        "dataset:flights@1", "dataset:flights@2", "run:1", "model:delay@1", "dataset:errors@1", "endpoint:delay",
    }  # fmt: skip


def test_a_depth_cuts_the_walk_and_says_so(woven: Stores) -> None:
    trace = woven.lineage.trace("endpoint:delay", "up", depth=2)
    assert refs(trace.nodes) == ["endpoint:delay", "model:delay@1", "bundle:b", "run:1"]
    assert trace.truncated
    assert not woven.lineage.trace("endpoint:delay", "up", depth=4).truncated


def test_telling_it_again_changes_nothing_and_forgets_nothing(woven: Stores) -> None:
    before = woven.lineage.trace("endpoint:delay", "up")
    with woven.db.begin() as tx:
        woven.lineage.node(tx, "dataset:flights@1")
        for source, target, role in CHAIN:
            woven.lineage.edge(tx, source, target, role)
    assert woven.lineage.trace("endpoint:delay", "up") == before


def test_a_digest_and_attributes_can_be_told_later(woven: Stores) -> None:
    with woven.db.begin() as tx:
        woven.lineage.node(tx, "dataset:flights@1", attrs={"rows": 4})
        woven.lineage.node(tx, "run:1", digest="r1")
    nodes = {node.ref: node for node in woven.lineage.trace("run:1", "up").nodes}
    assert nodes["dataset:flights@1"] == Node("dataset:flights@1", "d1", "dataset", {"rows": 4})
    assert nodes["run:1"].digest == "r1"


def test_projects_do_not_see_each_other(woven: Stores) -> None:
    with pytest.raises(NotFound, match="nothing is known"):
        woven.lineage.trace("endpoint:delay", "up", project="other")


def test_a_circle_ends(stores: Stores) -> None:
    with stores.db.begin() as tx:
        stores.lineage.edge(tx, "model:a@1", "loop:a", "source")
        stores.lineage.edge(tx, "loop:a", "model:a@1", "output")
    trace = stores.lineage.trace("loop:a", "up")
    assert (refs(trace.nodes), len(trace.edges), trace.truncated) == (["loop:a", "model:a@1"], 2, False)


def test_a_node_without_edges_is_a_trace_of_one(stores: Stores) -> None:
    with stores.db.begin() as tx:
        stores.lineage.node(tx, "code:c", digest="c")
    assert refs(stores.lineage.trace("code:c", "down").nodes) == ["code:c"]


def test_a_walk_asks_once_per_level_however_wide_it_is(stores_sqlite: Stores) -> None:
    with stores_sqlite.db.begin() as tx:
        for number in range(300):
            stores_sqlite.lineage.edge(tx, "dataset:a@1", f"run:{number}", "input")
            stores_sqlite.lineage.edge(tx, f"run:{number}", f"model:m@{number}", "output")
    asked: list[str] = []
    event.listen(
        stores_sqlite.db._engine,
        "before_cursor_execute",
        lambda _c, _k, statement, *_rest: asked.append(statement),
    )
    trace = stores_sqlite.lineage.trace("dataset:a@1", "down")
    assert len(trace.nodes) == 601
    assert sum("lineage_edges" in statement for statement in asked) == 3
    assert sum("lineage_nodes" in statement for statement in asked) == 2  # 601 refs, 500 a query


def test_a_walk_that_grows_too_large_is_cut_and_says_so(stores_sqlite: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_MAX_NODES", 10)
    with stores_sqlite.db.begin() as tx:
        for number in range(30):
            stores_sqlite.lineage.edge(tx, "dataset:a@1", f"run:{number}", "input")
    trace = stores_sqlite.lineage.trace("dataset:a@1", "down")
    assert (len(trace.nodes), trace.truncated) == (10, True)


@pytest.mark.slow
@given(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20))
@settings(max_examples=examples(30), deadline=None)
def test_down_and_up_agree(pairs: set[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(f"sqlite:///{Path(folder) / 'test.db'}", [])
        lineage = Lineage(db)
        with db.begin() as tx:
            for number in range(9):
                lineage.node(tx, f"run:{number}")
            for source, target in pairs:
                lineage.edge(tx, f"run:{source}", f"run:{target}", "input")
        ups = {(node.ref, f"run:{n}") for n in range(9) for node in lineage.trace(f"run:{n}", "up").nodes}
        downs = {(f"run:{n}", node.ref) for n in range(9) for node in lineage.trace(f"run:{n}", "down").nodes}
        db.close()
        assert ups == downs
