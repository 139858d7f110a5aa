"""JSON lines: exact types, and errors that name file, line and field."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from loopwright.core import Invalid
from loopwright.data import DatasetService


@pytest.mark.slow
def test_fields_that_come_late_and_times_are_found(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    early = '{"a": 1, "at": "2020-01-01T00:00:00Z", "day": "2020-01-01"}\n'
    path.write_text(early * 12_000 + '\n{"a": 1.5, "late": "x", "at": null}\n')
    datasets.ingest("t", path)
    frame = datasets.read("t")
    assert frame.schema == {
        "a": pl.Float64,
        "at": pl.Datetime("us", "UTC"),
        "day": pl.Date,
        "late": pl.String,
    }
    assert frame["a"].sum() == 12_001.5
    first = frame.filter(pl.col("late").is_null()).row(0)
    assert first == (1.0, datetime(2020, 1, 1, tzinfo=UTC), date(2020, 1, 1), None)


def test_nested_values_are_kept(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"tags": ["x"], "place": {"lat": 1.5}}\n{"tags": [], "place": null}\n')
    datasets.ingest("t", path)
    assert datasets.read("t").rows() == [(["x"], {"lat": 1.5}), ([], None)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "where", "fact"),
    [
        ('{"a": 1}\n{"a": \n', "a.jsonl, line 2", "not valid JSON"),
        ('{"a": 1}\n[1]\n', "a.jsonl, line 2", "the line holds a list"),
        (
            '{"a": 1}\n{"a": {"x": 1}}\n{"a": [1]}\n',
            "a.jsonl, line 2, column 'a'",
            "an object here and a number on line 1",
        ),
        (
            '{"at": "2020-01-01"}\n' * 10_001 + '{"at": "2020-13-01"}\n',
            "a.jsonl, line 10002, column 'at'",
            "is not a date",
        ),
        ("", "a.jsonl", "no object with fields"),
    ],
)
def test_malformed_lines_are_refused_whole(
    datasets: DatasetService, tmp_path: Path, body: str, where: str, fact: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(body)
    with pytest.raises(Invalid) as caught:
        datasets.ingest("t", path)
    assert caught.value.where == where
    assert fact in caught.value.message
    assert datasets.list() == []


def test_an_append_of_another_type_names_the_line(datasets: DatasetService, tmp_path: Path) -> None:
    datasets.ingest("t", pl.DataFrame({"a": [1]}))
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 2}\n{"a": "three"}\n')
    with pytest.raises(Invalid) as caught:
        datasets.ingest("t", path, mode="append")
    assert caught.value.where == "a.jsonl, line 2, column 'a'"
    assert "text here and a number on line 1" in caught.value.message


def test_a_damaged_parquet_file_is_refused(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": list(range(1000))}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Invalid, match="damaged, or no Parquet file") as caught:
        datasets.ingest("t", path)
    assert caught.value.where == "a.parquet"
    folder = tmp_path / "in"
    folder.mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(folder / "1.parquet")
    pl.DataFrame({"a": ["x"]}).write_parquet(folder / "2.parquet")
    with pytest.raises(Invalid, match=r"String here and Int64 in in/1\.parquet"):
        datasets.ingest("t", folder)
