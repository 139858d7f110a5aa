"""Time a local tracker's own call for one metric: run by `bench/tracking` with the interpreter that has the tracker.

    python native_peer.py TRACKER FOLDER CALLS      prints one JSON object

The latency of each of CALLS calls is taken, then a second run of CALLS calls is timed to the end of the tracker's own
`finish`, from which on its data is on the disk. Both runs are read back and counted with the tracker's own reader, or
record by record from the file that it wrote. Standard library only, beside the tracker: this file runs in its world.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BLOCK = 32_768
KEY = "loss"
COUNT_AIM = """
import sys
from aim import Repo, Run
folder, run_hash, key = sys.argv[1:]
Repo.from_path(folder).list_all_runs()
run = Run(run_hash=run_hash, repo=folder, system_tracking_interval=None, log_system_params=False)
print(sum(len(metric.values.sparse_numpy()[0]) for metric in run.metrics() if metric.name == key))
"""

Log = Callable[[int], Any]
Opened = tuple[Log, Callable[[], Any], Callable[[], int]]


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

    return lambda step: trackio.log({KEY: 0.5}, step=step), trackio.finish, count


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

    return lambda step: swanlab.log({KEY: 0.5}, step=step), swanlab.finish, count


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

    return lambda step: run.log({KEY: 0.5}, step=step), run.finish, count


def aim(folder: str, name: str) -> Opened:
    """Aim: a local repository."""
    from aim import Repo, Run

    repo = Repo.from_path(folder, init=True)
    run = Run(repo=repo, experiment=name, system_tracking_interval=None, log_system_params=False)

    def count() -> int:
        # Another process, and a run opened for writing: only then what the repository has not indexed yet is found.
        done = subprocess.run([sys.executable, "-c", COUNT_AIM, folder, run.hash, KEY], capture_output=True, check=True)
        return int(done.stdout.split()[-1])

    return lambda step: run.track(0.5, name=KEY, step=step), run.close, count


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

    return lambda step: writer.add_scalar(KEY, 0.5, step), writer.close, count


TRACKERS = {"trackio": trackio, "swanlab": swanlab, "wandb": wandb, "aim": aim, "tensorboardX": tensorboardx}


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


def measure(open_run: Callable[[str, str], Opened], folder: str, calls: int) -> dict[str, float]:
    """The figures of one tracker; refuses to tell a time for points that are not there."""
    log, finish, count = open_run(folder, "latency")
    for step in range(500):
        log(step)
    taken, now = [0] * calls, time.perf_counter_ns
    for step in range(calls):
        start = now()
        log(500 + step)
        taken[step] = now() - start
    finish()
    counts = [count()]
    log, finish, count = open_run(folder, "rate")
    start_s, worked = time.perf_counter(), time.process_time()
    for step in range(calls):
        log(step)
    finish()
    took, worked = time.perf_counter() - start_s, time.process_time() - worked
    counts.append(count())
    if counts != [calls + 500, calls]:
        raise SystemExit(f"stored {counts} points of {[calls + 500, calls]}")
    taken.sort()
    return {
        "median_us": taken[calls // 2] / 1000,
        "p99_us": taken[int(calls * 0.99)] / 1000,
        "per_second": calls / took,
        "cpu": worked / took,
    }


def main() -> None:
    """Measure, with all that the tracker prints kept away from the answer."""
    name, folder, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        figures = measure(TRACKERS[name], folder, calls)
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
