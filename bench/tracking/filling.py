"""Runs and points put into a tracker's database in bulk, since thousands of calls would take hours.

The peer's own server makes its schema and one run through its API; all other rows are that run's with other ids, names
and values. Ours are written by `bench/search.py`, or delivered as a spool delivers them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from http_load import call
from peers import Server
from psycopg.rows import dict_row
from rest import API, new_run
from search import BASE_US, Drawn

from loopwright.core import Location, Settings
from loopwright.store import Stores, open_stores
from loopwright.workspace import MIGRATIONS

TABLES = ("runs", "params", "tags", "metrics", "latest_metrics")
FILES = {"mlflow": "mlflow.db", "mlflow best": "mlflow.db", "fasttrackml": "fasttrackml.db"}
Rows = dict[str, dict[str, Any]]


@contextlib.contextmanager
def our_stores(server: Server) -> Iterator[Stores]:
    """The stores of our server's workspace, opened beside it."""
    stores = open_stores(Location(server.folder, server.folder / ".loopwright", Settings(db=server.db)), MIGRATIONS)
    try:
        yield stores
    finally:
        stores.close()


@contextlib.contextmanager
def database_of(server: Server) -> Iterator[Any]:
    """A connection to a peer's database, committed at the end; PostgreSQL's statistics are taken as it would itself."""
    if not server.db:
        with contextlib.closing(sqlite3.connect(server.folder / FILES[server.name], timeout=60)) as connection:
            connection.row_factory = sqlite3.Row
            with connection:
                yield connection
        return
    with psycopg.connect(server.db, row_factory=dict_row) as connection:
        yield connection
    with psycopg.connect(server.db, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def put_runs(server: Server, drawn: Iterable[Drawn], experiment: str) -> None:
    """Store finished runs in a peer's database, in an experiment of its own."""
    runs = list(drawn)
    with database_of(server) as db:
        like = _like(db, server)
        _insert(db, "runs", like, ({**_run(like["runs"], item), "experiment_id": int(experiment)} for item in runs))
        text = "value" if "value" in like["params"] else "value_str"
        _insert(db, "params", like, (_pair(run, key, text, value) for run in runs for key, value in run.params.items()))
        _insert(db, "tags", like, (_pair(run, key, "value", value) for run in runs for key, value in run.tags.items()))
        for table in ("metrics", "latest_metrics"):
            _insert(db, table, like, (_number(item, key, x) for item in runs for key, x in item.metrics.items()))


def put_points(server: Server, run: str, key: str, values: list[float], at_ms: list[int]) -> None:
    """Store the points of one metric of a run, a step each, in a peer's database."""
    with database_of(server) as db:
        like = _like(db, server)
        rows: list[dict[str, Any]] = [
            {"run_uuid": run, "key": key, "value": value, "timestamp": at, "step": step}
            for step, (value, at) in enumerate(zip(values, at_ms, strict=True))
        ]
        counted = "iter" in like["metrics"]
        _insert(db, "metrics", like, ({**row, "iter": row["step"] + 1} if counted else row for row in rows))
        last = {**rows[-1], "last_iter": len(rows)} if counted else rows[-1]
        _insert(db, "latest_metrics", like, [last])


def _like(db: Any, server: Server) -> Rows:
    """A row of each table, as the peer's own server writes it."""
    run = new_run(server)
    metric = {"key": "like", "value": 0.5, "timestamp": BASE_US // 1000, "step": 0}
    text = {"key": "like", "value": "text"}
    body = {"run_id": run, "metrics": [metric], "params": [text], "tags": [text]}
    call(server.url, "POST", f"{API}/runs/log-batch", body)
    call(server.url, "POST", f"{API}/runs/update", {"run_id": run, "status": "FINISHED", "end_time": 2})
    return {table: _row(db, table, run) for table in TABLES}


def _row(db: Any, table: str, run: str) -> dict[str, Any]:
    named = "" if table == "runs" else " AND key = 'like'"
    return dict(db.execute(f"SELECT * FROM {table} WHERE run_uuid = '{run}'{named}").fetchone())


def _run(like: dict[str, Any], item: Drawn) -> dict[str, Any]:
    times = {"start_time": item.started_us // 1000, "end_time": item.started_us // 1000 + 500}
    place = {"artifact_uri": like["artifact_uri"].replace(like["run_uuid"], item.id)}
    order = {"row_num": item.number} if "row_num" in like else {}
    return {"run_uuid": item.id, "name": f"run {item.number}", **times, **place, **order}


def _pair(run: Drawn, key: str, column: str, value: str) -> dict[str, Any]:
    return {"run_uuid": run.id, "key": key, column: value}


def _number(item: Drawn, key: str, value: float) -> dict[str, Any]:
    return {"run_uuid": item.id, "key": key, "value": value, "timestamp": BASE_US // 1000, "step": 0}


def _insert(db: Any, table: str, like: Rows, rows: Iterable[dict[str, Any]]) -> None:
    columns = ", ".join(like[table])
    values = (tuple({**like[table], **row}.values()) for row in rows)
    if isinstance(db, sqlite3.Connection):
        marks = ", ".join("?" * len(like[table]))
        db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
        return
    with db.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)
