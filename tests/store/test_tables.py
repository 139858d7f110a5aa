"""Tables: every write is one version; nothing half-written; types that Delta has; the same in a folder and on S3."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests.examples import examples
from tests.servers_bytes import S3Place

from loopwright.core import Conflict, Corrupt, Invalid, NotFound, Unavailable
from loopwright.store.tables import TableStore

FRAME = pl.DataFrame({"id": [1, 2, 3], "carrier": ["UA", "AA", None], "delay": [1.5, None, -3.0]})


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> TableStore:
    if request.param == "folder":
        return TableStore(tmp_path / "tables")
    place: S3Place = request.getfixturevalue("s3_place")
    return TableStore(place.url, place.options)


@pytest.fixture
def local(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path / "tables")


def test_each_write_is_a_version_and_old_ones_stay_readable(tables: TableStore) -> None:
    assert tables.append("p/flights", FRAME) == 0
    assert tables.append("p/flights", FRAME) == 1
    assert tables.overwrite("p/flights", FRAME.head(1)) == 2
    assert tables.version("p/flights") == 2
    assert [tables.read("p/flights", version).height for version in (0, 1, 2)] == [3, 6, 1]
    assert [tables.rows("p/flights", version) for version in (0, 1, 2)] == [3, 6, 1]
    assert_frame_equal(tables.read("p/flights", 0), FRAME)


def test_frames_lazy_frames_and_iterators_give_the_same_rows(tables: TableStore) -> None:
    tables.append("frame", FRAME)
    tables.append("lazy", FRAME.lazy().filter(pl.col("id") > 0))
    tables.append("iterator", (FRAME.slice(start, 1) for start in range(3)))
    for key in ("frame", "lazy", "iterator"):
        assert_frame_equal(tables.read(key).sort("id"), FRAME)


def test_an_empty_frame_makes_an_empty_table_with_columns(tables: TableStore) -> None:
    tables.append("empty", FRAME.clear())
    assert tables.read("empty").schema == FRAME.schema
    tables.append("empty", FRAME)
    assert tables.rows("empty") == 3


def test_merge_updates_what_matches_and_inserts_the_rest(tables: TableStore) -> None:
    tables.merge("m", FRAME, ["id"])
    tables.merge("m", pl.DataFrame({"delay": [9.0, 4.0], "id": [2, 4], "carrier": ["AA", "B6"]}), ["id"])
    found = tables.read("m").sort("id")
    assert found["id"].to_list() == [1, 2, 3, 4]
    assert found["delay"].to_list() == [1.5, 9.0, -3.0, 4.0]


def test_an_application_transaction_is_done_once(tables: TableStore) -> None:
    assert tables.last_app_transaction("log", "monitor") is None
    assert tables.append("log", FRAME, app_transaction=("monitor", 7)) == 0
    assert tables.append("log", FRAME, app_transaction=("monitor", 7)) == 0
    assert tables.append("log", FRAME, app_transaction=("monitor", 6)) == 0
    assert tables.merge("log", FRAME, ["id"], app_transaction=("monitor", 7)) == 0
    assert tables.last_app_transaction("log", "monitor") == 7
    assert tables.append("log", FRAME, app_transaction=("other", 1)) == 1
    assert tables.append("log", FRAME, app_transaction=("monitor", 8)) == 2
    assert tables.rows("log") == 9


def test_appends_at_once_all_succeed_as_versions_of_their_own(tables: TableStore) -> None:
    tables.append("t", FRAME)
    versions: list[int] = []
    writers = [
        threading.Thread(target=lambda: [versions.append(tables.append("t", FRAME)) for _ in range(3)])
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(versions) == list(range(1, 10))
    assert tables.rows("t") == 30


def test_one_table_can_be_copied_into_another_as_a_stream(tables: TableStore) -> None:
    tables.append("from", FRAME)
    tables.append("to", tables.batches("from", rows=1))
    tables.append("to", tables.scan("from"))
    assert tables.rows("to") == 6


def test_first_writers_at_once_all_succeed(tables: TableStore) -> None:
    writers = [threading.Thread(target=lambda: tables.append("t", FRAME)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert tables.rows("t") == 12


def test_one_application_transaction_by_many_writers_at_once_is_done_once(tables: TableStore) -> None:
    tables.append("t", FRAME)
    writers = [
        threading.Thread(target=lambda: tables.append("t", FRAME, app_transaction=("monitor", 1))) for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert tables.rows("t") == 6


def test_keys_are_listed_and_a_deleted_table_is_gone(tables: TableStore) -> None:
    assert tables.keys() == []
    for key in ("b", "a/x", "a/y/z"):
        tables.append(key, FRAME)
    assert tables.keys() == ["a/x", "a/y/z", "b"]
    tables.delete("a/x")
    tables.delete("a/x")
    assert tables.keys() == ["a/y/z", "b"]
    assert not tables.exists("a/x")
    assert tables.append("a/x", FRAME) == 0


def test_compaction_and_vacuum_keep_the_rows(tables: TableStore) -> None:
    for number in range(5):
        tables.append("t", FRAME.with_columns(id=pl.lit(number)))
    assert len(tables.files("t")) == 5
    tables.compact("t")
    assert len(tables.files("t")) == 1
    assert len(tables.vacuum("t", retention_hours=0, dry_run=True)) == 5
    assert len(tables.vacuum("t", retention_hours=0)) == 5
    assert tables.rows("t") == 15
    assert sorted(tables.read("t")["id"].unique()) == [0, 1, 2, 3, 4]


def test_vacuum_keeps_the_versions_it_is_told_to_keep(local: TableStore) -> None:
    local.append("t", FRAME)
    local.overwrite("t", FRAME.head(1))
    local.overwrite("t", FRAME.head(2))
    local.vacuum("t", retention_hours=0, keep=[0])
    assert local.read("t", 0).height == 3


def test_partitions_are_columns_again_when_read(tables: TableStore) -> None:
    frame = FRAME.with_columns(month=pl.Series([1, 1, 2]))
    tables.append("t", frame, partition_by=["month"])
    assert len(tables.files("t")) == 2
    assert_frame_equal(tables.scan("t").filter(pl.col("month") == 2).collect(), frame.tail(1), check_column_order=False)


def test_what_is_not_there_is_not_found(tables: TableStore) -> None:
    for ask in (tables.read, tables.version, tables.rows, tables.history, tables.compact, tables.vacuum, tables.files):
        with pytest.raises(NotFound, match="no table 'nowhere'"):
            ask("nowhere")
    tables.append("t", FRAME)
    for version in (1, -1):
        with pytest.raises(NotFound, match="the newest is 0"):
            tables.read("t", version)


@pytest.mark.parametrize("key", ["../out", "/etc", "a//b", "", "a/../b"])
def test_an_unsafe_key_never_becomes_a_place(local: TableStore, key: str) -> None:
    for ask in (local.read, local.exists, local.delete, local.version):
        with pytest.raises(Invalid, match="not a safe relative path"):
            ask(key)
    with pytest.raises(Invalid, match="not a safe relative path"):
        local.append(key, FRAME)


def test_history_tells_what_was_said_at_the_commit(local: TableStore) -> None:
    local.append("t", FRAME, commit_info={"run": "0197"})
    assert local.history("t")[0]["run"] == "0197"
    assert local.history("t")[0]["version"] == 0


# Rows that do not fit


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.with_columns(pl.col("id").cast(pl.String)), "'id' is String, the table has Int64"),
        (FRAME.drop("delay"), r"missing columns \['delay'\]"),
        (FRAME.with_columns(extra=1), r"new columns \['extra'\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_the_column(local: TableStore, frame: pl.DataFrame, message: str) -> None:
    local.append("t", FRAME)
    with pytest.raises(Invalid, match=message):
        local.append("t", frame)
    assert local.version("t") == 0


def test_new_columns_are_added_where_that_is_allowed(local: TableStore) -> None:
    local.append("t", FRAME)
    local.append("t", FRAME.with_columns(extra=pl.lit(1)).drop("delay"), new_columns="add")
    found = local.read("t").sort("id", "extra", nulls_last=False)
    assert found["extra"].null_count() == 3
    assert found["delay"].null_count() == 4


def test_columns_in_another_order_are_the_same_columns(local: TableStore) -> None:
    local.append("t", FRAME)
    local.append("t", FRAME.select("delay", "id", "carrier"))
    assert local.read("t")["carrier"].drop_nulls().to_list() == ["UA", "AA"] * 2


@pytest.mark.parametrize(
    "series",
    [pl.Series("x", [timedelta(1)]), pl.Series("x", [datetime(2013, 1, 1, tzinfo=UTC)]).dt.time()],
)
def test_types_that_delta_lacks_are_refused_by_name(local: TableStore, series: pl.Series) -> None:
    with pytest.raises(Invalid, match="column 'x' is"):
        local.append("t", series.to_frame())
    assert not local.exists("t")


def test_a_number_too_large_for_its_column_is_refused(local: TableStore) -> None:
    with pytest.raises(Invalid, match="does not fit the column's type"):
        local.append("t", pl.DataFrame({"x": pl.Series([2**63 + 1], dtype=pl.UInt64)}))
    assert local.keys() == []


def test_values_survive_the_change_of_type(local: TableStore) -> None:
    frame = pl.DataFrame(
        {
            "small": pl.Series([255], dtype=pl.UInt8),
            "category": pl.Series(["UA"], dtype=pl.Categorical),
            "choice": pl.Series(["a"], dtype=pl.Enum(["a", "b"])),
            "nothing": pl.Series([None]),
            "pair": pl.Series([[1, 2]], dtype=pl.Array(pl.UInt16, 2)),
            "nested": pl.Series([{"n": 7, "tags": ["x"]}]),
            "fine": pl.Series([datetime(2013, 1, 1, 12)], dtype=pl.Datetime("ns")),  # noqa: DTZ001  (a time without zone)
            "zoned": pl.Series([datetime(2013, 1, 1, 12)], dtype=pl.Datetime("us", "America/New_York")),  # noqa: DTZ001  (polars gives it the zone)
            "day": pl.Series([date(2013, 1, 1)]),
            "raw": pl.Series([b"\x00\xff"]),
            "yes": pl.Series([True]),
        }
    )
    local.append("t", frame)
    row = local.read("t").row(0, named=True)
    assert (row["small"], row["category"], row["choice"], row["nothing"]) == (255, "UA", "a", None)
    assert (row["pair"], row["nested"]) == ([1, 2], {"n": 7, "tags": ["x"]})
    assert row["fine"] == datetime(2013, 1, 1, 12)  # noqa: DTZ001  (as it went in)
    assert row["zoned"] == frame["zoned"][0]
    assert (row["day"], row["raw"], row["yes"]) == (date(2013, 1, 1), b"\x00\xff", True)
    local.append("t", frame)  # the same types fit again
    assert local.rows("t") == 2


values = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=False),
        "s": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        "b": st.none() | st.booleans(),
    }
)


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(values, max_size=30), st.integers(1, 10))
def test_rows_come_back_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], step: int
) -> None:
    schema = {"i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean}
    frame = pl.DataFrame(rows, schema=schema)
    tables = TableStore(tmp_path_factory.mktemp("tables"))
    tables.append("t", (frame.slice(start, step) for start in range(0, max(len(rows), 1), step)))
    key = ["i", "f", "s", "b"]
    assert_frame_equal(tables.read("t").sort(key), frame.sort(key))


# Faults


def test_what_a_source_raises_passes_and_nothing_is_written(tables: TableStore) -> None:
    def breaks() -> Iterator[pl.DataFrame]:
        yield FRAME
        raise FileNotFoundError("line 7 of flights.csv")

    with pytest.raises(FileNotFoundError, match="line 7"):
        tables.append("new", breaks())
    assert not tables.exists("new")
    assert tables.keys() == []
    tables.append("old", FRAME)
    with pytest.raises(FileNotFoundError, match="line 7"):
        tables.append("old", breaks())
    assert tables.version("old") == 0


def test_a_source_without_frames_is_refused(local: TableStore) -> None:
    with pytest.raises(Invalid, match="no frame to write"):
        local.append("t", iter([]))


def test_frames_of_different_columns_in_one_write_are_refused(local: TableStore) -> None:
    with pytest.raises(Invalid, match="different columns"):
        local.append("t", iter([FRAME, FRAME.drop("id")]))
    with pytest.raises(Invalid, match="'id' is Float64 in one frame and Int64 in another"):
        local.append("t", iter([FRAME, FRAME.with_columns(pl.col("id").cast(pl.Float64))]))
    assert local.keys() == []


def test_a_merge_of_one_key_twice_is_refused(local: TableStore) -> None:
    local.append("t", FRAME)
    with pytest.raises(Invalid, match="one key more than once"):
        local.merge("t", pl.concat([FRAME, FRAME]), ["id"])
    assert local.version("t") == 0


def test_a_change_of_the_same_rows_by_two_writers_is_a_conflict(local: TableStore) -> None:
    local.append("t", FRAME)

    def overtaken() -> Iterator[pl.DataFrame]:
        yield FRAME
        local.overwrite("t", FRAME.head(1))

    with pytest.raises(Conflict, match="another writer changed the table 't' first"):
        local.overwrite("t", overtaken())
    assert local.read("t").height == 1


def test_a_damaged_log_is_corrupt(local: TableStore, tmp_path: Path) -> None:
    local.append("t", FRAME)
    log = tmp_path / "tables" / "t" / "_delta_log" / f"{0:020}.json"
    log.write_bytes(log.read_bytes()[:40])
    with pytest.raises(Corrupt, match="loopwright fsck"):
        local.read("t")


def test_a_place_that_does_not_answer_is_unavailable() -> None:
    options = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    tables = TableStore("s3://bucket/x", {**options, "AWS_REGION": "us-east-1", "max_retries": "0"})
    with pytest.raises(Unavailable, match="does not answer"):
        tables.version("t")


def test_every_delta_reader_can_read_it(local: TableStore, tmp_path: Path) -> None:
    local.append("t", FRAME)
    assert DeltaTable(tmp_path / "tables" / "t").to_pyarrow_table().num_rows == 3


def test_a_long_log_is_read_from_its_last_checkpoint_on(local: TableStore, tmp_path: Path) -> None:
    for number in range(25):
        local.append("t", pl.DataFrame({"number": [number]}))
    for version in range(19):
        (tmp_path / "tables" / "t" / "_delta_log" / f"{version:020}.json").unlink()
    assert sorted(TableStore(tmp_path / "tables").read("t")["number"]) == list(range(25))


def test_a_checkpoint_is_forced_to_the_disk_with_its_version(
    local: TableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)

    for number in range(9):
        local.append("t", pl.DataFrame({"number": [number]}))
    monkeypatch.setattr("os.fsync", fsync)
    local.append("t", pl.DataFrame({"number": [9]}))
    checkpoint = f"{9:020}.checkpoint.parquet"
    assert synced[1:] == [f"{9:020}.json", checkpoint, "_last_checkpoint", "t", "_delta_log"]
    assert (tmp_path / "tables" / "t" / "_delta_log" / checkpoint).exists()
