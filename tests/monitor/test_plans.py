"""Each query that can grow walks an index."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Select, select, text

from loopwright.monitor.joining import by_id
from loopwright.monitor.tables import alerts, monitor_windows, prediction_slots, predictions
from loopwright.store import Stores

NOW = datetime(2026, 1, 1, tzinfo=UTC)
W, S, P, A = monitor_windows.c, prediction_slots.c, predictions.c, alerts.c

QUERIES: dict[str, Select[tuple[object, ...]]] = {
    "due windows": select(W.start).where(W.project == "p", W.monitor == "m", W.stage < 2).order_by(W.start),
    "windows of an endpoint": select(W.start).where(W.project == "p", W.endpoint == "e").order_by(W.start.desc()),
    "windows of a monitor": select(W.start).where(W.project == "p", W.monitor == "m").order_by(W.start.desc()),
    "slots of an endpoint": select(S.rows).where(S.project == "p", S.endpoint == "e", S.start >= NOW),
    "slots of a version": select(S.rows).where(S.project == "p", S.model == "model:m@1"),
    "predictions that labels are about": by_id([f"{number:032}" for number in range(500)]),
    "predictions of a version": select(P.id).where(P.project == "p", P.model == "m").order_by(P.id.desc()),
    "predictions of an endpoint": select(P.id).where(P.project == "p", P.endpoint == "e").order_by(P.id.desc()),
    "predictions past the horizon": select(P.id).where(P.id < "0").order_by(P.id),
    "open alerts": select(A.id).where(A.project == "p", A.state == "open").order_by(A.id.desc()),
    "a monitor's open alert": select(A.id).where(A.project == "p", A.monitor == "m", A.about == "x", A.state == "open"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_that_can_grow_walks_an_index(stores_sqlite: Stores, name: str) -> None:
    from sqlalchemy.dialects import sqlite

    compiled = QUERIES[name].compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
    with stores_sqlite.db.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(compiled.params.values())).all()

    said = " ".join(row[3] for row in plan)
    assert "SCAN" not in said, said
    assert "SEARCH" in said


def test_labels_find_their_predictions_by_id_however_many_the_project_has(stores_sqlite: Stores) -> None:
    from sqlalchemy.dialects import sqlite

    compiled = QUERIES["predictions that labels are about"].compile(
        dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True}
    )
    with stores_sqlite.db.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(compiled.params.values())).all()

    assert [row[3] for row in plan] == ["SEARCH predictions USING INDEX sqlite_autoindex_predictions_1 (id=?)"]


def test_the_tables_can_be_asked_on_both_databases(stores: Stores) -> None:
    with stores.db.read() as connection:
        for table in ("monitors", "monitor_windows", "prediction_slots", "predictions", "monitor_cursors", "alerts"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
