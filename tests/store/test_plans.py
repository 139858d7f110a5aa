"""Queries that can grow are answered from an index, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, Select, select, text

from loopwright.core import Scope
from loopwright.store import Stores
from loopwright.store.events.log import _filtered
from loopwright.store.events.tables import events
from loopwright.store.lineage.graph import select_edges
from loopwright.store.lineage.tables import edges, nodes


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def filled(request: pytest.FixtureRequest) -> Stores:
    """Stores with enough rows that a planner has a choice."""
    stores = request.getfixturevalue("stores_sqlite" if request.param == "sqlite" else "stores_postgres")
    with stores.db.begin() as tx:
        for number in range(3000):
            scope = Scope(f"project{number % 50}")
            kind = "run.started" if number % 100 else "run.failed"
            stores.events.append(tx, kind, f"run:{number}", scope)
        rows = [
            {"project": "default", "source": f"dataset:a@{number}", "target": f"run:{number}", "role": "input"}
            for number in range(3000)
        ]
        tx.execute(edges.insert(), rows)
        tx.execute(
            nodes.insert(),
            [
                {"project": "default", "ref": row["source"], "kind": "dataset", "digest": "", "attrs": {}}
                for row in rows
            ],
        )
    stores.events.seal()
    with stores.db.begin() as tx:
        tx.execute(text("ANALYZE"))
    return stores


def plan(connection: Connection, query: Select[Any]) -> str:
    compiled = query.compile(connection.engine, compile_kwargs={"literal_binds": True})
    prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return "\n".join(str(row) for row in connection.exec_driver_sql(f"{prefix} {compiled}"))


def page(kinds: Sequence[str], project: str | None, subject: str, after: int = 5) -> Select[Any]:
    query = _filtered(kinds, project, subject).where(events.c.position > after)
    return query.order_by(events.c.position).limit(100)


QUERIES: dict[str, tuple[Select[Any], tuple[str, ...]]] = {
    "after a position": (page((), None, "", after=2900), ("ix_events_position",)),
    "of a kind": (page(["run.failed"], None, ""), ("ix_events_kind_position",)),
    "of a subject": (page((), None, "run:7"), ("ix_events_subject_position",)),
    "of a project": (page((), "project7", ""), ("ix_events_project_position",)),
    "anything unsealed": (
        select(events.c.id).where(events.c.position.is_(None)).limit(1),
        ("ix_events_unsealed", "ix_events_position"),
    ),
    "next to seal": (
        select(events).where(events.c.position.is_(None)).order_by(events.c.id).limit(10),
        ("ix_events_unsealed", "ix_events_position"),
    ),
    "edges up": (select_edges("default", edges.c.target, ["run:1", "run:2"]), ("ix_lineage_edges_upstream",)),
    "edges down": (
        select_edges("default", edges.c.source, ["dataset:a@1"]),
        ("pk_lineage_edges", "sqlite_autoindex_lineage_edges"),
    ),
    "nodes": (
        select(nodes).where(nodes.c.project == "default", nodes.c.ref.in_(["run:1"])),
        ("pk_lineage_nodes", "sqlite_autoindex_lineage_nodes"),
    ),
}


@pytest.mark.slow
def test_each_query_uses_its_index(filled: Stores) -> None:
    without = {}
    with filled.db.read() as connection:
        for name, (query, indexes) in QUERIES.items():
            found = plan(connection, query)
            if "Seq Scan" in found or "SCAN" in found or not any(index in found for index in indexes):
                without[name] = found
    assert without == {}


@pytest.mark.slow
def test_the_newest_events_are_read_without_sorting(filled: Stores) -> None:
    query = _filtered((), None, "").where(events.c.position.is_not(None)).order_by(events.c.position.desc()).limit(100)
    with filled.db.read() as connection:
        found = plan(connection, query)
    assert "Sort" not in found
    assert "TEMP B-TREE" not in found
    assert "ix_events_position" in found
