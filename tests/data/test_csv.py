"""CSV: exact types, and errors that name file, line and column."""

# ruff: noqa: DTZ001  (times without a zone are what is tested)
from __future__ import annotations

import gzip
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import Invalid
from loopwright.data import DatasetService
from loopwright.data.sources.csv_files import CsvSource
from loopwright.data.sources.source import ReadOptions, TypesWidened


def read(path: Path, **options: Any) -> pl.DataFrame:
    source = CsvSource([(path, path.name)], ReadOptions(path.parent, **options), path.name)
    while True:
        try:
            return pl.concat(list(source.batches()))
        except TypesWidened:
            continue


def read_text(tmp_path: Path, text: str, **options: Any) -> pl.DataFrame:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    return read(path, **options)


def refused(datasets: DatasetService, path: Path) -> Invalid:
    with pytest.raises(Invalid) as caught:
        datasets.ingest("t", path)
    assert datasets.list() == []
    assert not datasets.stores.tables.exists("datasets/default/t")
    return caught.value


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["1", "", "-3"], pl.Int64, [1, None, -3]),
        (["1", "2.5", "NA"], pl.Float64, [1.0, 2.5, None]),
        (["true", "False", "NULL"], pl.Boolean, [True, False, None]),
        (["2020-01-31", "NA"], pl.Date, [date(2020, 1, 31), None]),
        (["2020-01-31T01:02:03Z"], pl.Datetime("us", "UTC"), [datetime(2020, 1, 31, 1, 2, 3, tzinfo=UTC)]),
        (
            ["2020-01-31 01:02:03.5+01:00"],
            pl.Datetime("us", "UTC"),
            [datetime(2020, 1, 31, 0, 2, 3, 500000, tzinfo=UTC)],
        ),
        (["2020-01-31 01:02"], pl.Datetime("us"), [datetime(2020, 1, 31, 1, 2)]),
        (["00501", "10001"], pl.String, ["00501", "10001"]),
        (["0", "0.5"], pl.Float64, [0.0, 0.5]),
        (["NA", "DE"], pl.String, ["NA", "DE"]),
        (["1", "x"], pl.String, ["1", "x"]),
        (["99999999999999999999"], pl.Float64, [1e20]),
    ],
)
def test_types_are_those_of_the_values(
    tmp_path: Path, values: list[str], dtype: pl.DataType, expected: list[Any]
) -> None:
    text = "v,w\n" + "".join(f"{value},1\n" for value in values)
    column = read_text(tmp_path, text)["v"]
    assert column.dtype == dtype
    assert column.to_list() == expected


def test_named_null_values_hold_in_every_column(tmp_path: Path) -> None:
    frame = read_text(tmp_path, "a,b\nNA,1\nx,-\n", null_values=["NA", "-"])
    assert frame.rows() == [(None, 1), ("x", None)]


def test_a_column_that_becomes_a_fraction_far_down_is_widened(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,1\n" * 150_000 + "1.5,1\n")
    datasets.ingest("t", path)
    column = datasets.read("t")["a"]
    assert column.dtype == pl.Float64
    assert column.sum() == 150_001.5


def test_a_column_without_values_at_first_has_the_type_of_its_later_ones(tmp_path: Path) -> None:
    text = "a,b\n" + ",1\n" * 20_000 + "2020-01-01,1\n"
    assert read_text(tmp_path, text)["a"].dtype == pl.Date


def test_the_separator_quotes_line_ends_and_marks_of_the_file_are_understood(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a;b\n1;2,5\n").rows() == [(1, "2,5")]
    assert read_text(tmp_path, "a\tb\n1\t2\n").rows() == [(1, 2)]
    assert read_text(tmp_path, '\ufeffa,b\r\n"x\r\ny ""z""",2\r\n\r\n').rows() == [('x\r\ny "z"', 2)]
    assert read_text(tmp_path, "a\n1\n2").rows() == [(1,), (2,)]


def test_a_file_with_only_a_header_is_an_empty_table(datasets: DatasetService, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n")
    made = datasets.ingest("t", tmp_path / "a.csv")
    assert made.rows == 0
    assert datasets.read("t").columns == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "where", "fact"),
    [
        ("a,b,c\n1,2,3\n4,5\n7,8,9\n", "a.csv, line 3, column 'c'", "has 2 fields; the header names 3"),
        ("a,b,c\n1,2,3\n4,5,6,7\n", "a.csv, line 3", "has 4 fields; the header names 3; the first one too many is '7'"),
        ('a,b,c\n"x\ny",2,3\n4,5\n', "a.csv, line 4, column 'c'", "has 2 fields"),
        ('a,b,c\n1,2,3\n4,"5,6\n7,8,9\n', "a.csv, line 3", "a quote is opened and never closed"),
        ("a,b,a\n1,2,3\n", "a.csv, line 1", "columns 1 and 3 have the same name 'a'"),
        ("a,,c\n1,2,3\n", "a.csv, line 1", "column 2 has no name"),
        ("", "a.csv, line 1", "no header"),
        ("a,b\n" + "1,2\n" * 20_000 + "1,many\n", "a.csv, line 20002, column 'b'", "'many' is not a whole number"),
        ("a,b\n" + "2020-01-01,2\n" * 20_000 + "2020-02-30,1\n", "a.csv, line 20002, column 'a'", "is not a date"),
    ],
)
def test_malformed_csv_is_refused_whole(
    datasets: DatasetService, tmp_path: Path, body: str, where: str, fact: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(body)
    error = refused(datasets, path)
    assert error.where == where
    assert fact in error.message
    assert error.next_step


def test_the_line_is_right_behind_quoted_line_breaks_and_blank_lines(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + '"x\ny",1\n' * 6_000 + "\n\n" + "z,1\n" * 6_000 + "z,bad\n")
    assert refused(datasets, path).where == "a.csv, line 18004, column 'b'"


def test_bytes_that_are_no_text_are_refused(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\nM\xfcnchen,3\n")
    error = refused(datasets, path)
    assert error.where == "a.csv, line 3"
    assert "0xfc" in error.message
    assert "iconv" in error.next_step


def test_a_fault_in_a_packed_file_is_placed_in_it(datasets: DatasetService, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.csv", "a,b\n1,2\n3\n")
    assert refused(datasets, tmp_path / "a.zip").where == "a.zip:x/a.csv, line 3, column 'b'"
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:-10])
    assert "damaged gzip" in refused(datasets, packed).message
    assert not list((datasets.stores.data / "tmp").iterdir())


@pytest.mark.slow
def test_archives_with_tricks_are_refused(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for name in ("../a.csv", "/etc/a.csv"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "a\n1\n")
        assert "not a safe relative path" in refused(datasets, path).message
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a.csv")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "holds a link" in refused(datasets, path).message
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"a\n" + b"0" * (300 << 20))
    assert "grows to more than" in refused(datasets, path).message
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").symlink_to("/etc/passwd")
    assert "holds a link" in refused(datasets, tmp_path / "folder").message


def test_files_of_one_folder_must_agree(datasets: DatasetService, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("a,b\n1,2\n")
    (folder / "b.csv").write_text("a,c\n1,2\n")
    error = refused(datasets, folder)
    assert error.where == "in/b.csv"
    assert "lacks 'b' and has 'c' besides" in error.message


def test_an_append_reads_with_the_types_of_the_table(datasets: DatasetService, tmp_path: Path) -> None:
    datasets.ingest("t", pl.DataFrame({"code": ["00501"], "x": [0.5], "day": [date(2020, 1, 1)]}))
    path = tmp_path / "a.csv"
    path.write_text("x,code,day\n1,7,2020-01-02\n")
    datasets.ingest("t", path, mode="append")
    assert datasets.read("t").sort("day").rows() == [("00501", 0.5, date(2020, 1, 1)), ("7", 1.0, date(2020, 1, 2))]
    path.write_text("x,code,day\nmuch,7,2020-01-02\n")
    with pytest.raises(Invalid, match="'much' is not a number") as caught:
        datasets.ingest("t", path, mode="append")
    assert caught.value.where == "a.csv, line 2, column 'x'"


FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=6)


@settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6))
def test_any_text_that_is_written_is_read_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    import csv

    with (tmp_path / "p.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("first", "second"), ("a letter", "b letter"), *rows])
    frame = read(tmp_path / "p.csv", null_values=[])
    assert frame.rows() == [("a letter", "b letter"), *rows]
