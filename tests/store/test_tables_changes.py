"""What was added between two versions, and versions that are opened once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.servers_bytes import S3Place

from loopwright.core import Corrupt, new_id
from loopwright.store.tables import TableStore


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> TableStore:
    if request.param == "folder":
        return TableStore(tmp_path / "tables")
    place: S3Place = request.getfixturevalue("s3_place")
    return TableStore(place.url, place.options)


def frame_of(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}, schema={"id": pl.Int64})


def ids(frame: pl.LazyFrame | None) -> list[int] | None:
    return None if frame is None else sorted(frame.collect()["id"].to_list())


def test_appended_rows_are_told_apart(tables: TableStore) -> None:
    for number in range(4):
        tables.append("a b", frame_of(number, 10 + number))
    assert ids(tables.added("a b", 0, 3)) == [1, 2, 3, 11, 12, 13]
    assert ids(tables.added("a b", 2, 3)) == [3, 13]
    assert ids(tables.added("a b", 3, 3)) == []


def test_compaction_adds_nothing(tables: TableStore) -> None:
    for number in range(4):
        tables.append("t", frame_of(number))
    compacted = tables.compact("t")
    after = tables.append("t", frame_of(9))
    assert ids(tables.added("t", 3, compacted)) == []
    assert ids(tables.added("t", 1, after)) == [2, 3, 9]


def test_what_the_log_cannot_tell_is_none(tables: TableStore) -> None:
    tables.append("t", frame_of(1))
    tables.append("t", frame_of(2))
    tables.overwrite("t", frame_of(3))
    tables.append("t", frame_of(4))
    assert tables.added("t", 1, 2) is None
    assert tables.added("t", 0, 3) is None
    assert ids(tables.added("t", 2, 3)) == [4]
    tables.merge("t", frame_of(4, 5), ["id"])
    assert tables.added("t", 3, 4) is None
    tables.append("t", frame_of(6).with_columns(more=1), new_columns="add")
    assert tables.added("t", 4, 5) is None
    assert tables.added("t", 4, 9) is None
    tables.append("p", frame_of(1).with_columns(part=1), partition_by=["part"])
    tables.append("p", frame_of(1).with_columns(part=1))
    assert tables.added("p", 0, 1) is None


def test_files_that_are_gone_and_commits_that_are_damaged(tmp_path: Path) -> None:
    tables = TableStore(tmp_path)
    tables.append("t", frame_of(1))
    tables.append("t", frame_of(2))
    (name,) = set(tables.files("t", 1)) - set(tables.files("t", 0))
    Path(name).unlink()
    assert tables.added("t", 0, 1) is None
    (tmp_path / "t" / "_delta_log" / f"{1:020}.json").write_text("{")
    with pytest.raises(Corrupt, match="commit 1 of the table 't'"):
        tables.added("t", 0, 1)


@pytest.mark.slow
@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(writes=st.lists(st.sampled_from(["append", "overwrite", "compact"]), min_size=1, max_size=8), data=st.data())
def test_any_course_of_writes_agrees_with_reading_both_versions(
    tmp_path: Path, writes: list[str], data: st.DataObject
) -> None:
    tables, key = TableStore(tmp_path), new_id()
    rows: Iterator[int] = iter(range(1000))
    tables.append(key, frame_of(next(rows)))
    for write in writes:
        if write == "compact":
            tables.compact(key)
        else:
            getattr(tables, write)(key, frame_of(next(rows), next(rows)))
    newest = tables.version(key)
    since = data.draw(st.integers(0, newest))
    version = data.draw(st.integers(since, newest))
    added = ids(tables.added(key, since, version))
    if added is not None:
        before, after = (set(tables.read(key, number)["id"].to_list()) for number in (since, version))
        assert set(added) == after - before
        assert before <= after


def test_a_version_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = TableStore(tmp_path)
    tables.append("t", frame_of(1))
    tables.append("t", frame_of(2))
    tables.append("t", frame_of(3))
    opened = []
    original = DeltaTable.__init__
    monkeypatch.setattr(
        DeltaTable, "__init__", lambda self, *given, **named: opened.append(1) or original(self, *given, **named)
    )
    for _ in range(3):
        assert tables.read("t", 1).height == 2
        assert tables.read("t", 2).height == 3
    assert len(opened) == 2
    tables.append("t", frame_of(4))
    assert tables.read("t", 2).height == 3
    assert tables.read("t").height == 4


def test_a_table_that_was_made_again_is_opened_again(tmp_path: Path) -> None:
    tables, other = TableStore(tmp_path), TableStore(tmp_path)
    tables.append("t", frame_of(1))
    tables.append("t", frame_of(1))
    assert tables.read("t", 0)["id"].to_list() == [1]
    other.delete("t")
    other.append("t", frame_of(2))
    other.append("t", frame_of(3))
    assert tables.read("t", 0)["id"].to_list() == [2]
    assert tables.append("t", frame_of(4)) == 2
    assert ids(tables.scan("t")) == [2, 3, 4]


@pytest.mark.slow
def test_writers_that_keep_their_handles_do_not_lose_each_others_rows(tmp_path: Path) -> None:
    first, second = TableStore(tmp_path), TableStore(tmp_path)
    versions = [store.append("t", frame_of(number)) for number in range(6) for store in (first, second)]
    assert versions == list(range(12))
    first.compact("t")
    second.overwrite("t", frame_of(7))
    first.append("t", frame_of(8))
    assert ids(first.scan("t")) == ids(second.scan("t")) == [7, 8]
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(5):
                first.append("t", frame_of(100 * number + turn))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ids(first.scan("t")) == sorted([7, 8, *(100 * n + t for n in range(1, 5) for t in range(5))])


def test_an_append_to_a_table_with_a_long_log_does_not_open_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = TableStore(tmp_path)
    tables.append("t", frame_of(1))
    tables.append("t", frame_of(2))
    monkeypatch.setattr(DeltaTable, "__init__", lambda *_, **__: pytest.fail("opened"))
    assert tables.append("t", frame_of(3)) == 2


def test_a_stream_of_a_table_whose_file_was_cut_short_does_not_just_end(tmp_path: Path) -> None:
    tables = TableStore(tmp_path)
    tables.append("t", frame_of(1, 2, 3))
    (file,) = tables.files("t")
    Path(file).write_bytes(Path(file).read_bytes()[:20])
    with pytest.raises((Corrupt, pl.exceptions.PolarsError)):
        list(tables.batches("t", 0))
