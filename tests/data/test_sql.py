"""Rows of an SQL query."""

from __future__ import annotations

import sqlite3
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from loopwright.core import Invalid, Unavailable
from loopwright.data import DatasetService


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "source.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id INTEGER, name TEXT, x REAL)")
        rows = [(i, None if i % 3 else f"n{i}", None if i < 15_000 else i / 2) for i in range(25_000)]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    return f"sqlite:///{path}"


@pytest.mark.slow
def test_the_rows_of_a_query_become_a_version(datasets: DatasetService, url: str) -> None:
    made = datasets.ingest_sql("t", url, "SELECT * FROM t WHERE id >= :low ORDER BY id", parameters={"low": 10})
    frame = datasets.read("t").sort("id")
    assert made.rows == frame.height == 24_990
    assert frame.schema == {"id": pl.Int64, "name": pl.String, "x": pl.Float64}
    assert frame["x"].null_count() == 14_990
    assert datasets.ingest_sql("t", url, "SELECT * FROM t WHERE id >= 10 ORDER BY id") == made
    assert datasets.ingest_sql("t", url, "SELECT * FROM t WHERE id < 10", mode="append").rows == 25_000


def test_no_rows_are_an_empty_version(datasets: DatasetService, url: str) -> None:
    assert datasets.ingest_sql("t", url, "SELECT * FROM t WHERE id < 0").rows == 0
    assert datasets.read("t").columns == ["id", "name", "x"]


@pytest.mark.parametrize(
    ("query", "fact"),
    [
        ("SELECT * FROM absent", "no such table: absent"),
        ("SELECT id, id FROM t", "two columns called 'id'"),
        ("DELETE FROM t", "returns no rows"),
        ("SELECT CASE WHEN id < 20000 THEN id ELSE 'x' END AS v FROM t", "several types|Int64 in some rows"),
        ("SELECT :missing", "value is required"),
    ],
)
def test_a_bad_query_is_refused_whole(datasets: DatasetService, url: str, query: str, fact: str) -> None:
    with pytest.raises(Invalid, match=fact):
        datasets.ingest_sql("t", url, query)
    assert datasets.list() == []


def test_bad_urls(datasets: DatasetService, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="URL is not understood"):
        datasets.ingest_sql("t", "nonsense", "SELECT 1")
    with pytest.raises(Unavailable, match="does not answer"):
        datasets.ingest_sql("t", f"sqlite:///{tmp_path}/no/such/folder.db", "SELECT 1")
    with pytest.raises(Unavailable, match="does not answer") as caught:
        datasets.ingest_sql("t", "postgresql://me:secret@127.0.0.1:1/db", "SELECT 1")
    assert "secret" not in str(caught.value)


@pytest.mark.postgres
def test_postgresql_rows_keep_their_types_and_the_password_is_not_kept(
    datasets: DatasetService, postgres_url: str
) -> None:
    query = "SELECT 1::bigint AS id, '2020-01-31'::date AS day, 1.5::float8 AS x, true AS ok"
    made = datasets.ingest_sql("t", postgres_url, query)
    assert datasets.read("t").rows() == [(1, date(2020, 1, 31), 1.5, True)]
    assert "SELECT 1::bigint" in made.source
