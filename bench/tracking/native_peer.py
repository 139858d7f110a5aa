"""Time a local tracker's own call for one metric: run by `bench/tracking` with the interpreter that has the tracker.

    python native_peer.py write TRACKER FOLDER CALLS      prints one JSON object
    python native_peer.py read TRACKER FOLDER POINTS

`write`: the latency of each of CALLS calls is taken, then a second run is timed to the end of the tracker's own
`finish`, from which on its data is on the disk: as many calls as fit into about a second, so that what starts and ends
a run weighs alike for a fast tracker and a slow one. Both runs are read back and counted with the tracker's own reader,
or record by record from the file that it wrote. `read` times the tracker's own reading of one metric, whole and thinned
out to 1,000 points. Standard library only, beside the tracker: this file runs in its world.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BLOCK = 32_768
KEY = "loss"
LONG_S = 1.0
LEAST, MOST = 2_000, 500_000
BUCKETS = 1_000
REPEATS = 3
# Aim finds a closed run only once its index has it. `aim up` writes that from a thread; this is the call it makes.
READ_AIM = """
import json, sys, time
from aim import Repo
from aim.sdk.index_manager import RepoIndexManager
folder, run_hash, key = sys.argv[1:]
RepoIndexManager.get_index_manager(Repo.from_path(folder)).index(run_hash)
def metric():
    run = Repo.from_path(folder).get_run(run_hash)
    return next(item for item in run.metrics() if item.name == key)
"""
COUNT_AIM = READ_AIM + "print(len(metric().data.values_list()[0]))\n"
TIME_AIM = (
    READ_AIM
    + """
def timed(read):
    start, worked = time.perf_counter(), time.process_time()
    steps, columns = read()
    return time.perf_counter() - start, time.process_time() - worked, steps, columns[0]
whole = timed(lambda: metric().data.items_list())
some = timed(lambda: metric().data.sample(1000).items_list())
print(json.dumps([whole, some]))
"""
)

Log = Callable[[int], Any]
Opened = tuple[Log, Callable[[], Any], Callable[[], int]]
Read = tuple[float, float, list[int], list[float]]


def value_of(step: int) -> float:
    """What is logged at a step: a different number each time, so that nothing is the same by chance."""
    return step / 7


def trackio(folder: str, name: str) -> Opened:
    """Trackio in its default mode: a local SQLite file."""
    os.environ["TRACKIO_DIR"] = folder
    import trackio

    trackio.init(project="bench", name=name, embed=False)

    def count() -> int:
        [path] = Path(folder).glob("*bench*.db")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT metrics FROM metrics WHERE run_name = ?", (name,))
            return sum(KEY in json.loads(text) for (text,) in rows)

    return lambda step: trackio.log({KEY: value_of(step)}, step=step), trackio.finish, count


def swanlab(folder: str, name: str) -> Opened:
    """SwanLab offline: a file of framed records."""
    import swanlab

    swanlab.init(project="bench", name=name, mode="offline", log_dir=f"{folder}/{name}")

    def count() -> int:
        from swanlab.proto.swanlab.record.v1 import record_pb2 as proto

        [path] = Path(folder, name).rglob("*.swanlab")
        found = 0
        for data in _framed(path, 7):
            record = proto.Record()
            record.ParseFromString(data)
            found += record.HasField("scalar") and record.scalar.key == KEY
        return found

    return lambda step: swanlab.log({KEY: value_of(step)}, step=step), swanlab.finish, count


def wandb(folder: str, name: str) -> Opened:
    """Weights & Biases offline: a file of framed records."""
    import wandb

    run = wandb.init(project="bench", name=name, mode="offline", dir=f"{folder}", settings={"silent": True})

    def count() -> int:
        from wandb.proto import wandb_internal_pb2 as proto

        [path] = Path(folder, "wandb").glob(f"offline-run-*-{run.id}/*.wandb")
        found = 0
        for data in _framed(path, 7):
            record = proto.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                found += any(KEY in (item.key, *item.nested_key) for item in record.history.item)
        return found

    return lambda step: run.log({KEY: value_of(step)}, step=step), run.finish, count


def aim(folder: str, name: str) -> Opened:
    """Aim: a local repository."""
    from aim import Repo, Run

    run = Run(
        repo=Repo.from_path(folder, init=True),
        experiment=name,
        system_tracking_interval=None,
        log_system_params=False,
    )
    run_hash = run.hash
    Path(folder, f"{name}.hash").write_text(run_hash)
    return (
        lambda step: run.track(value_of(step), name=KEY, step=step),
        run.close,
        lambda: int(_aim(COUNT_AIM, folder, run_hash)),
    )


def _aim(program: str, folder: str, run_hash: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, folder, run_hash, KEY], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"aim's own reader fails: {done.stderr[-500:]}")
    return done.stdout.splitlines()[-1]


def tensorboardx(folder: str, name: str) -> Opened:
    """TensorBoardX: an event file."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(f"{folder}/{name}")

    def count() -> int:
        from tensorboardX.proto import event_pb2

        [path] = Path(folder, name).glob("events*")
        found = 0
        with path.open("rb") as file:
            while header := file.read(12):
                event = event_pb2.Event()
                event.ParseFromString(file.read(struct.unpack("<Q", header[:8])[0]))
                file.read(4)
                found += any(value.tag == KEY for value in event.summary.value)
        return found

    return lambda step: writer.add_scalar(KEY, value_of(step), step), writer.close, count


TRACKERS = {"trackio": trackio, "swanlab": swanlab, "wandb": wandb, "aim": aim, "tensorboardX": tensorboardx}


def read_aim(folder: str) -> tuple[Read, Read]:
    """A fresh process that reads as Aim's SDK does: all points, then 1,000 of them."""
    whole, some = json.loads(_aim(TIME_AIM, folder, Path(folder, "rate.hash").read_text()))
    return tuple(whole), tuple(some)


def read_trackio(_folder: str) -> tuple[Read, Read]:
    """As Trackio's own page does, without the web server around it."""
    from trackio.sqlite_storage import SQLiteStorage

    def read(most: int | None) -> Read:
        start, worked = time.perf_counter(), time.process_time()
        rows = SQLiteStorage.get_logs("bench", "rate", max_points=most)
        took, worked = time.perf_counter() - start, time.process_time() - worked
        return took, worked, [row["step"] for row in rows], [row[KEY] for row in rows]

    return read(None), read(BUCKETS)


READERS = {"aim": read_aim, "trackio": read_trackio}


def _framed(path: Path, skip: int) -> Iterator[bytes]:
    """Records of a file in LevelDB's log format, after a file header of `skip` bytes that lies in the first block."""
    data = path.read_bytes()
    position, parts = skip, []
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        size, kind = struct.unpack_from("<HB", data, position + 4)
        if kind == 0:
            position += left
            continue
        parts.append(data[position + 7 : position + 7 + size])
        position += 7 + size
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


def _family() -> set[int]:
    """This process and those that it started: a tracker may do its work in another process."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_s() -> float:
    """Processor time of this process and all that it started, in seconds."""
    ticks = 0
    for pid in _family():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def write(open_run: Callable[[str, str], Opened], folder: str, calls: int) -> dict[str, float]:
    """The figures of one tracker; refuses to tell a time for points that are not there."""
    log, finish, count = open_run(folder, "latency")
    for step in range(500):
        log(step)
    taken, now = [0] * calls, time.perf_counter_ns
    worked = time.thread_time()
    for step in range(calls):
        start = now()
        log(500 + step)
        taken[step] = now() - start
    busy = (time.thread_time() - worked) / (sum(taken) / 1e9)
    finish()
    counted = [count()]
    calls_long = max(min(int(LONG_S * calls / (sum(taken) / 1e9)), MOST), min(LEAST, calls))
    log, finish, count = open_run(folder, "rate")
    start_s, worked = time.perf_counter(), cpu_s()
    for step in range(calls_long):
        log(step)
    called = time.perf_counter() - start_s
    finish()
    took, worked = time.perf_counter() - start_s, cpu_s() - worked
    counted.append(count())
    if counted != [calls + 500, calls_long]:
        raise SystemExit(f"stored {counted} points of {[calls + 500, calls_long]}")
    taken.sort()
    return {
        "median_us": taken[calls // 2] / 1000,
        "p99_us": taken[int(calls * 0.99)] / 1000,
        "busy": busy,
        "per_second": calls_long / took,
        "calls": calls_long,
        "called": called / took,
        "cores": worked / took,
    }


def read(name: str, folder: str, points: int) -> dict[str, float]:
    """Seconds to read a metric of so many points, and to thin it out; refuses to tell a time for other points."""
    log, finish, _ = TRACKERS[name](folder, "rate")
    for step in range(points):
        log(step)
    finish()
    wholes, somes = zip(*(READERS[name](folder) for _ in range(REPEATS)), strict=True)
    for _, _, steps, values in (*wholes, *somes):
        if sorted(values) != [value_of(step) for step in sorted(steps)]:
            raise SystemExit(f"read other values than were written: {sorted(values)[:3]}")
    if any(sorted(whole[2]) != list(range(points)) for whole in wholes):
        raise SystemExit(f"read {len(wholes[0][2])} points of {points}")
    if not all(0 < len(some[2]) <= BUCKETS + 2 for some in somes):
        raise SystemExit(f"thinned out to {len(somes[0][2])} points")
    whole_s, some_s = (statistics.median(item[0] for item in group) for group in (wholes, somes))
    cores = [sum(item[1] for item in group) / sum(item[0] for item in group) for group in (wholes, somes)]
    return {"whole_s": whole_s, "whole_cores": cores[0], "some_s": some_s, "some_cores": cores[1]}


def main() -> None:
    """Measure, with all that the tracker prints kept away from the answer."""
    task, name, folder, calls = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        figures = write(TRACKERS[name], folder, calls) if task == "write" else read(name, folder, calls)
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
