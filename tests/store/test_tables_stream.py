"""Tables larger than memory go in and out in bounded memory; a killed writer leaves the version before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from loopwright.store.tables import TableStore

MEASURE = """
import resource, sys, threading, time
import polars as pl
import psutil
from loopwright.store.tables import TableStore

ROWS, BATCHES = 250_000, int(sys.argv[2])
tables = TableStore(sys.argv[1])
words = [f"a text that takes some space {n}" for n in range(1000)]

def frames():
    for number in range(BATCHES):
        start = number * ROWS
        yield pl.DataFrame({"id": pl.int_range(start, start + ROWS, eager=True)}).with_columns(
            x=pl.col("id").hash(1) / 2**64, y=pl.col("id").hash(2) / 2**64,
            s=pl.Series(words * (ROWS // 1000)), u=pl.col("id").hash(3).cast(pl.String))

tables.append("warm", pl.concat(list(__import__("itertools").islice(frames(), 1))))
tables.read("warm")
process, base, peak, on = psutil.Process(), psutil.Process().memory_info().rss, [0], [True]
def watch():
    while on[0]:
        peak[0] = max(peak[0], process.memory_info().rss)
        time.sleep(0.005)
watcher = threading.Thread(target=watch); watcher.start()
tables.append("big", frames())
written = peak[0]
peak[0] = 0
rows = total = size = 0
for frame in tables.batches("big"):
    rows += frame.height
    total += frame["id"].sum()
    size += frame.estimated_size()
on[0] = False; watcher.join()
assert rows == ROWS * BATCHES and total == rows * (rows - 1) // 2
print(base >> 20, written >> 20, peak[0] >> 20, size >> 20)
"""

WRITER = """
import sys
import polars as pl
from loopwright.store.tables import TableStore

tables = TableStore(sys.argv[1])
def frames():
    for number in range(10_000):
        print(number, flush=True)
        yield pl.DataFrame({"id": pl.int_range(0, 200_000, eager=True) + number})
tables.append("t", frames(), app_transaction=("writer", 1))
"""

COMMITTER = """
import sys
import polars as pl
from loopwright.store.tables import TableStore

tables = TableStore(sys.argv[1])
for number in range(10_000):
    tables.append("t", pl.DataFrame({"id": [number]}), app_transaction=("writer", number + 1))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_memory_is_bounded_by_the_batch_and_not_by_the_table(tmp_path: Path) -> None:
    """A table passes in and out of a process that grows by far less than its size (however large it is)."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), "64"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    base, writing, reading, size = map(int, done.stdout.split())
    assert size > 1100
    assert writing - base < 650
    assert reading - base < 350


@pytest.mark.fault
@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_writer_leaves_the_version_before(tmp_path: Path, existing: bool) -> None:
    tables = TableStore(tmp_path)
    if existing:
        tables.append("t", pl.DataFrame({"id": [7]}))
    writer = _start(WRITER, tmp_path)
    for line in writer.stdout or ():
        if int(line) == 40:
            break
    _kill(writer)
    assert tables.exists("t") is existing
    assert tables.last_app_transaction("t", "writer") is None
    if existing:
        assert tables.read("t")["id"].to_list() == [7]
    assert tables.append("t", pl.DataFrame({"id": [8]}), app_transaction=("writer", 1)) == int(existing)


@pytest.mark.fault
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    acknowledged = -1
    for round_ in range(3):
        writer = _start(COMMITTER, tmp_path)
        assert writer.stdout is not None
        acknowledged = max(acknowledged, int(writer.stdout.readline()))
        threading.Timer(0.7 + 0.3 * round_, _kill, [writer]).start()
        acknowledged = max([acknowledged, *[int(line) for line in writer.stdout or () if line.endswith("\n")]])
        writer.wait()
    found = sorted(TableStore(tmp_path).read("t")["id"])
    assert acknowledged >= 0
    assert found == list(range(len(found)))  # no row twice, although each writer started again at the first
    assert len(found) > acknowledged


def test_a_slow_source_ends_with_its_writer(tmp_path: Path) -> None:
    """When the writer fails, the source is left, and its thread ends."""
    tables = TableStore(tmp_path)
    left = threading.Event()

    def source() -> Iterator[pl.DataFrame]:
        try:
            for number in range(1000):
                yield pl.DataFrame({"id": [number]})
                time.sleep(0.001)
        finally:
            left.set()

    def fails() -> Iterator[pl.DataFrame]:
        for number, frame in enumerate(source()):
            if number == 5:
                raise ValueError("enough")
            yield frame

    with pytest.raises(ValueError, match="enough"):
        tables.append("t", fails())
    assert left.wait(2)
    assert not [thread for thread in threading.enumerate() if thread.name == "table-source"]


def _start(program: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)


def _kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
