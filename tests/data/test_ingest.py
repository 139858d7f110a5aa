"""Rows and files become versions."""

# ruff: noqa: DTZ001  (times without a zone are what is tested)
from __future__ import annotations

import gzip
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from loopwright.core import Conflict, Invalid, NotFound
from loopwright.data import DatasetService, Kind

FRAME = pl.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"], "x": [0.5, None, 2.5]})


def test_every_form_of_the_same_rows_is_the_same_content(datasets: DatasetService, tmp_path: Path) -> None:
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.write_parquet(tmp_path / "a.parquet")
    FRAME.write_ndjson(tmp_path / "a.jsonl")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.csv", "inner/a.csv")
    first = datasets.ingest("t", FRAME)
    sources = [
        *(tmp_path / name for name in ("a.csv", "a.parquet", "a.jsonl", "a.csv.gz", "a.jsonl.gz", "a.zip")),
        FRAME.lazy(),
        FRAME.to_arrow(),
        FRAME.to_arrow().to_reader(),
        FRAME.to_pandas().astype({"name": "string"}),
    ]
    for source in sources:
        assert datasets.ingest("t", source) == first, source
    assert datasets.read("t").sort("id").equals(FRAME)
    assert [version.version for version in datasets.versions("t")] == [1]


def test_a_folder_of_tables_is_one_table(datasets: DatasetService, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("y,x\n4,2.5\n")
    (tmp_path / "a.csv").write_text("x,y\n1,3\n")
    (tmp_path / ".DS_Store").write_bytes(b"\x00")
    made = datasets.ingest("t", tmp_path)
    assert datasets.read(made.ref).sort("y").to_dict(as_series=False) == {"x": [1.0, 2.5], "y": [3, 4]}


def test_a_folder_of_other_files_is_a_tree(datasets: DatasetService, tmp_path: Path) -> None:
    source = tmp_path / "images"
    (source / "cats").mkdir(parents=True)
    (source / "cats" / "1.png").write_bytes(b"one")
    (source / "labels.csv").write_text("a\n1\n")
    made = datasets.ingest("t", source)
    assert (made.kind, made.rows, made.size_bytes, made.schema) == (Kind.TREE, 2, 7, None)
    assert datasets.ingest("t", source) == made
    (source / "cats" / "1.png").write_bytes(b"two")
    assert datasets.ingest("t", source).version == 2
    out = datasets.checkout("t@1", tmp_path / "out")
    assert (out / "cats" / "1.png").read_bytes() == b"one"
    with pytest.raises(Conflict, match="tree of files"):
        datasets.scan("t")
    with pytest.raises(Invalid, match="cannot be appended"):
        datasets.ingest("t", source, mode="append")
    with pytest.raises(Conflict, match="is a tree"):
        datasets.ingest("t", FRAME)


def test_an_append_adds_only_its_rows(datasets: DatasetService) -> None:
    first = datasets.ingest("t", FRAME)
    second = datasets.ingest("t", FRAME.select("x", "name", "id"), mode="append", message="more")
    assert (second.version, second.parent, second.rows, second.message) == (2, 1, 6, "more")
    assert second.digest != first.digest
    assert second.part_digest == first.part_digest
    assert datasets.read("t@1").height == 3
    assert datasets.read("t@2").height == 6
    assert datasets.ingest("t", FRAME.head(0), mode="append") == second
    added = datasets.added("t@2", 1)
    assert added is not None
    assert added.collect().sort("id").equals(FRAME)


def test_an_append_makes_the_dataset_if_it_is_new(datasets: DatasetService) -> None:
    assert datasets.ingest("t", FRAME, mode="append").version == 1


def test_a_key_makes_an_ingest_happen_once(datasets: DatasetService) -> None:
    first = datasets.ingest("t", FRAME, mode="append", once="day-1")
    assert datasets.ingest("t", FRAME, mode="append", once="day-1") == first
    assert datasets.ingest("t", FRAME, mode="append", once="day-2").rows == 6


def test_versions_that_were_replaced_stay_readable(datasets: DatasetService) -> None:
    datasets.ingest("t", FRAME)
    datasets.ingest("t", pl.DataFrame({"other": [True]}))
    assert datasets.read("t@1").equals(FRAME)
    assert datasets.read("t").to_dict(as_series=False) == {"other": [True]}
    assert datasets.added("t@2", 1) is None
    assert [version.version for version in datasets.versions("t", limit=1)] == [2]
    assert [version.version for version in datasets.versions("t", after="2")] == [1]


def test_an_append_must_fit(datasets: DatasetService) -> None:
    datasets.ingest("t", FRAME)
    with pytest.raises(Invalid, match="lacks 'x'") as caught:
        datasets.ingest("t", FRAME.drop("x"), mode="append")
    assert "mode='replace'" in str(caught.value)
    with pytest.raises(Invalid, match="has 'extra' besides"):
        datasets.ingest("t", FRAME.with_columns(extra=1), mode="append")
    with pytest.raises(Invalid, match=r"string .* where dataset 't' has int64") as caught:
        datasets.ingest("t", FRAME.with_columns(pl.col("id").cast(pl.String)), mode="append")
    assert caught.value.where == "column 'id'"
    assert datasets.get("t").version == 1
    assert datasets.ingest("t", FRAME.with_columns(x=pl.Series([1, 2, 3])), mode="append").rows == 6


def test_types_that_delta_lacks_are_kept_as_their_nearest(datasets: DatasetService) -> None:
    frame = pl.DataFrame(
        {
            "u": pl.Series([2**40], dtype=pl.UInt64),
            "c": pl.Series(["a"], dtype=pl.Categorical),
            "ns": pl.Series([datetime(2020, 1, 1)], dtype=pl.Datetime("ns")),
            "zone": pl.Series([datetime(2020, 1, 1, 12)]).dt.replace_time_zone("Europe/Berlin"),
            "span": [timedelta(seconds=1)],
            "nothing": [None],
            "list": pl.Series([[1]], dtype=pl.List(pl.UInt8)),
        }
    )
    datasets.ingest("t", frame)
    assert datasets.read("t").to_dicts() == [
        {
            "u": 2**40,
            "c": "a",
            "ns": datetime(2020, 1, 1),
            "zone": datetime(2020, 1, 1, 11, tzinfo=UTC),
            "span": 1_000_000,
            "nothing": None,
            "list": [1],
        }
    ]
    assert datasets.ingest("t", frame, mode="append").rows == 2


def test_a_value_too_large_for_its_stored_type_is_refused_whole(datasets: DatasetService) -> None:
    with pytest.raises(Invalid, match="does not fit the type Int64") as caught:
        datasets.ingest("t", pl.DataFrame({"a": [1], "u": pl.Series([2**64 - 1], dtype=pl.UInt64)}))
    assert caught.value.where == "dataset 't', column 'u'"
    assert datasets.list() == []


def test_pandas_index_and_columns(datasets: DatasetService) -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    datasets.ingest("t", frame)
    assert datasets.read("t").sort("key").rows(named=True) == [{"key": "a", "x": 1}, {"key": "b", "x": 2}]
    with pytest.raises(Invalid, match="two columns called 'x'"):
        datasets.ingest("u", pd.DataFrame([[1, 2]], columns=["x", "x"]))
    with pytest.raises(Invalid, match="several types"):
        datasets.ingest("u", pd.DataFrame({"x": [1, "a", {}]}))


def test_arrow_streams(datasets: DatasetService) -> None:
    table = pa.table(
        {"a": pa.array([1, 2], pa.int32()), "b": pa.array(["x", None], pa.dictionary(pa.int8(), pa.string()))}
    )
    assert datasets.ingest("t", table).rows == 2
    assert datasets.read("t").rows() == [(1, "x"), (2, None)]


def test_unknown_sources_are_refused_with_what_to_do(datasets: DatasetService, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        datasets.ingest("t", tmp_path / "absent.csv")
    (tmp_path / "a.xyz").write_text("1")
    with pytest.raises(Invalid, match=r"format= one of csv, jsonl, parquet, files"):
        datasets.ingest("t", tmp_path / "a.xyz")
    with pytest.raises(Invalid, match="there is no format 'excel'"):
        datasets.ingest("t", tmp_path / "a.xyz", format="excel")
    with pytest.raises(Invalid, match="a int cannot be ingested"):
        datasets.ingest("t", 3)
    with pytest.raises(Invalid, match="mode 'upsert'"):
        datasets.ingest("t", FRAME, mode="upsert")
    with pytest.raises(Invalid, match="cannot name a dataset"):
        datasets.ingest("../t", FRAME)
    with pytest.raises(Invalid, match="no columns"):
        datasets.ingest("t", pl.DataFrame())
    assert datasets.ingest("t", tmp_path / "a.xyz", format="files").kind is Kind.TREE


def test_refs(datasets: DatasetService) -> None:
    datasets.ingest("t", FRAME)
    assert datasets.get("dataset:t@1") == datasets.get("t@1") == datasets.get("t")
    with pytest.raises(NotFound, match="no version 9; the newest is 1"):
        datasets.get("t@9")
    with pytest.raises(NotFound, match="no dataset 'u'"):
        datasets.get("u")
    with pytest.raises(Invalid, match="no aliases"):
        datasets.get("t@champion")


def test_projects_do_not_see_each_other(datasets: DatasetService) -> None:
    from loopwright.core import Scope

    other = DatasetService(datasets.stores, Scope(project="other"))
    datasets.ingest("t", FRAME)
    with pytest.raises(NotFound):
        other.get("t")
    other.ingest("t", FRAME.head(1))
    assert datasets.read("t").height == 3


def test_events_and_lineage_tell_of_a_version(datasets: DatasetService) -> None:
    made = datasets.ingest("t", FRAME)
    datasets.ingest("t", FRAME)
    derived = datasets.ingest("u", FRAME.head(1), derived_from=[made.ref])
    events = datasets.stores.events.read(kinds=["dataset.version_created"])
    assert [event.subject for event in events] == [made.ref, derived.ref]
    assert events[0].evidence["digest"] == made.digest
    trace = datasets.stores.lineage.trace(derived.ref, "up")
    assert {node.ref: node.digest for node in trace.nodes} == {derived.ref: derived.digest, made.ref: made.digest}


def test_checkout_of_a_table_is_one_file(datasets: DatasetService, tmp_path: Path) -> None:
    datasets.ingest("t", FRAME)
    folder = datasets.checkout("t", tmp_path / "out")
    assert [file.name for file in folder.iterdir()] == ["data.parquet"]
    assert pl.read_parquet(folder / "data.parquet").equals(FRAME)
    with pytest.raises(Conflict, match="not empty"):
        datasets.checkout("t", folder)


@pytest.mark.slow
def test_the_real_flights(datasets: DatasetService, flights_folder: Path) -> None:
    flights = datasets.ingest("flights", flights_folder / "flights.csv.zip")
    types = {field.name: str(field.dtype) for field in flights.schema.fields} if flights.schema else {}
    assert flights.rows == 336_776
    assert (types["dep_delay"], types["carrier"], types["time_hour"]) == ("int64", "string", "timestamp")
    read = datasets.read("flights")
    assert read["dep_delay"].null_count() == 8255  # the known number of cancelled flights
    assert read["time_hour"].min() == datetime(2013, 1, 1, 10, tzinfo=UTC)
    weather = datasets.ingest("weather", flights_folder / "weather.csv")
    assert weather.rows == 26_115
    assert datasets.read("weather")["wind_gust"].dtype == pl.Float64
