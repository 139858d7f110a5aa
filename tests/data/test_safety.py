"""Nothing half-written: crashes between the stores, writers at once, both databases, bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest
from tests.servers_bytes import S3Place

from loopwright.core import Corrupt, Scope, Settings, Unavailable
from loopwright.data import DatasetService
from loopwright.store import Stores

FRAME = pl.DataFrame({"id": [1, 2, 3]})


def ids(datasets: DatasetService, ref: str = "t") -> list[int]:
    return sorted(datasets.read(ref)["id"].to_list())


def die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_rows_of_a_writer_that_died_before_its_version_are_never_seen(
    datasets: DatasetService, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    datasets.ingest("t", FRAME)
    with monkeypatch.context() as patched:
        patched.setattr(type(datasets.stores.events), "append", die)
        with pytest.raises(KeyboardInterrupt):
            datasets.ingest("t", FRAME + 10, mode=mode)
    assert datasets.stores.tables.version("datasets/default/t") == 1  # the rows are there, but no version names them
    assert ids(datasets) == [1, 2, 3]
    assert datasets.ingest("t", FRAME + 20, mode="append").rows == 6
    assert ids(datasets) == [1, 2, 3, 21, 22, 23]
    assert ids(datasets, "t@1") == [1, 2, 3]
    datasets.ingest("t", FRAME + 30, mode="append")
    assert ids(datasets) == [1, 2, 3, 21, 22, 23, 31, 32, 33]


def test_rows_of_a_first_writer_that_died_are_never_seen(
    datasets: DatasetService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(type(datasets.stores.events), "append", die)
        with pytest.raises(KeyboardInterrupt):
            datasets.ingest("t", FRAME, mode="append")
    assert datasets.list() == []
    datasets.ingest("t", FRAME + 10, mode="append")
    assert ids(datasets) == [11, 12, 13]


def test_a_source_that_fails_half_way_leaves_no_version(datasets: DatasetService) -> None:
    datasets.ingest("t", FRAME)

    def explode(frame: pl.DataFrame) -> pl.DataFrame:
        raise RuntimeError("the source broke")

    lazy = pl.LazyFrame({"id": range(200_000)}).map_batches(explode, schema={"id": pl.Int64}, streamable=True)
    with pytest.raises(RuntimeError, match="the source broke"):
        datasets.ingest("t", lazy, mode="append")
    assert datasets.stores.tables.version("datasets/default/t") == 0
    assert ids(datasets) == [1, 2, 3]


@pytest.mark.slow
def test_many_appends_lose_nothing_and_are_compacted(datasets: DatasetService) -> None:
    for number in range(40):
        datasets.ingest("t", FRAME + 3 * number, mode="append")
    assert ids(datasets) == list(range(1, 121))
    assert ids(datasets, "t@32") == list(range(1, 97))
    assert ids(datasets, "t@31") == list(range(1, 94))
    head = datasets.get("t")
    assert len(datasets.stores.tables.files("datasets/default/t", head.table_version)) < 12
    for since in (0, 31, 32, 38, 40):
        added = datasets.added("t@40", since) if since else None
        assert (added is None) == (since == 0)
        if added is not None:
            assert sorted(added.collect()["id"].to_list()) == list(range(3 * since + 1, 121)), since


@pytest.mark.slow
def test_writers_at_once_take_turns(stores: Stores) -> None:
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(4):
                DatasetService(stores, Scope()).ingest("t", FRAME + 100 * number + 10 * turn, mode="append")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    datasets = DatasetService(stores, Scope())
    wanted = [100 * number + 10 * turn + i for number in range(4) for turn in range(4) for i in (1, 2, 3)]
    assert ids(datasets) == sorted(wanted)
    assert [version.version for version in datasets.versions("t")] == list(range(16, 0, -1))
    assert [version.rows for version in datasets.versions("t")] == list(range(48, 0, -3))


def test_a_writer_that_lost_its_turn_neither_loses_nor_doubles_rows(
    datasets: DatasetService, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.ingest("t", FRAME)
    monkeypatch.setattr("loopwright.data.writing.turn", lambda *_: nullcontext(lambda: None))  # as if both had it
    other = [FRAME + 100]

    def overtaken(frame: pl.DataFrame) -> pl.DataFrame:
        if other:
            DatasetService(datasets.stores, Scope()).ingest("t", other.pop(), mode="append")
        return frame

    lazy = (FRAME + 10).lazy().map_batches(overtaken, schema={"id": pl.Int64}, streamable=True)
    datasets.ingest("t", lazy, mode="append")
    assert ids(datasets, "t@2") == [1, 2, 3, 101, 102, 103]
    assert ids(datasets, "t@3") == [1, 2, 3, 11, 12, 13, 101, 102, 103]
    assert datasets.get("t").rows == 9


def test_what_the_system_refuses_is_an_error_of_ours(datasets: DatasetService, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (datasets.stores.data / "tmp").write_text("in the way of the folder for unpacking")
    with pytest.raises(Unavailable, match="dataset 't' cannot be ingested: File exists"):
        datasets.ingest("t", tmp_path / "a.csv")
    (datasets.stores.data / "tmp").unlink()
    datasets.ingest("t", tmp_path / "a.csv")
    with pytest.raises(Unavailable, match="cannot be written to"):
        datasets.checkout("t", tmp_path / "a.csv" / "inside")


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_damaged_rows_are_said_to_be(datasets: DatasetService, harm: str) -> None:
    datasets.ingest("t", FRAME)
    (file,) = datasets.stores.tables.files("datasets/default/t")
    if harm == "gone":
        Path(file).unlink()
    else:
        Path(file).write_bytes(b"PAR1" + bytes(200) + b"PAR1")
    for read in (datasets.read, datasets.preview, datasets.profile):
        with pytest.raises(Corrupt, match=r"the rows of (dataset:)?t(@1)? cannot be read|gave 0 rows of 3") as caught:
            read("t")
        assert "fsck" in caught.value.next_step


@pytest.mark.s3
def test_rows_and_files_on_s3(make_sqlite_stores: Callable[..., Stores], tmp_path: Path, s3_place: S3Place) -> None:
    options = dict(s3_place.options)
    places = Settings(tables=f"{s3_place.url}/tables", objects=f"{s3_place.url}/objects", storage_options=options)
    datasets = DatasetService(make_sqlite_stores(tmp_path / "w", settings=places), Scope())
    datasets.ingest("t", FRAME)
    datasets.profile("t")
    assert datasets.ingest("t", FRAME + 10, mode="append").rows == 6
    assert ids(datasets) == [1, 2, 3, 11, 12, 13]
    assert ids(datasets, "t@1") == [1, 2, 3]
    added = datasets.added("t", 1)
    assert added is not None
    assert sorted(added.collect()["id"].to_list()) == [11, 12, 13]
    assert datasets.profile("t").columns["id"].mean == 7.0
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.bin").write_bytes(b"x")
    datasets.ingest("files", tmp_path / "in")
    assert (datasets.checkout("files", tmp_path / "out") / "x.bin").read_bytes() == b"x"


@pytest.mark.fault
@pytest.mark.slow
def test_kill_nine_during_appends_leaves_whole_versions(
    make_sqlite_stores: Callable[..., Stores], tmp_path: Path, migrations: tuple[str, ...]
) -> None:
    make_sqlite_stores(tmp_path).close()
    program = textwrap.dedent(
        f"""
        import polars as pl
        from loopwright.core import Scope, locate
        from loopwright.data import DatasetService
        from loopwright.store import open_stores
        datasets = DatasetService(open_stores(locate({str(tmp_path)!r}), {migrations!r}), Scope())
        start = datasets.get("t").version if datasets.list() else 0
        for number in range(start, 10_000):
            made = datasets.ingest("t", pl.DataFrame({{"id": [number] * 5}}), mode="append", once=f"n{{number}}")
            print(made.version, flush=True)
        """
    )
    said = 0
    for pause_s in (0.30, 0.37, 0.46, 0.55):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = max(said, int(process.stdout.readline()))
        time.sleep(pause_s)
        process.kill()
        said = max([said, *(int(line) for line in process.stdout.read().split())])
        process.wait()
        stores = make_sqlite_stores(tmp_path)
        datasets = DatasetService(stores, Scope())
        head = datasets.get("t")
        assert head.version >= said
        counts = dict(datasets.read("t").group_by("id").len().rows())
        assert counts == dict.fromkeys(range(head.version), 5)
        assert stores.events.verify().ok
        stores.close()


@pytest.mark.slow
def test_memory_is_bounded_by_batches_not_by_the_file(
    make_sqlite_stores: Callable[..., Stores], tmp_path: Path, migrations: tuple[str, ...]
) -> None:
    make_sqlite_stores(tmp_path / "w").close()
    path = tmp_path / "big.csv"
    line = ",".join(["0.123456789012345"] * 20) + "\n"
    with path.open("w") as file:
        file.write(",".join(f"c{i}" for i in range(20)) + "\n")
        for _ in range(60):
            file.write(line * 20_000)  # 1.2 million rows: more than a gigabyte if held whole
    program = textwrap.dedent(
        f"""
        import resource, sys
        from loopwright.core import Scope, locate
        from loopwright.data import DatasetService
        from loopwright.store import open_stores
        datasets = DatasetService(open_stores(locate({str(tmp_path / "w")!r}), {migrations!r}), Scope())
        def peak():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024
        small = peak()
        made = datasets.ingest("t", {str(path)!r})
        datasets.profile("t")
        print(made.rows, peak() - small)
        """
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from /proc, which only Linux has")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    rows, peak_mib = map(int, done.stdout.split())
    assert rows == 1_200_000
    assert peak_mib < 750
