"""Processes that write the same runs at once, and processes that are killed while they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loopwright.core import Scope
from loopwright.store import Stores
from loopwright.track import RunService

OPEN = """
import os, signal, sys, threading
from pathlib import Path
from datetime import UTC, datetime
from loopwright.core import Location, Settings, Scope
from loopwright.store import open_stores
from loopwright.track import Delivery, MetricIntake, MetricPoint, RunService, columns_of, deliver
from loopwright.track import intake as module
root, url, migrations = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
run, worker = sys.argv[4], int(sys.argv[5])
stores = open_stores(Location(root, root / ".loopwright", Settings(db=url)), migrations)
runs = RunService(stores, Scope())
at = datetime(2026, 1, 1, tzinfo=UTC)
"""
WRITER = (
    OPEN
    + """
print("ready", flush=True)
sys.stdin.readline()
for turn in range(12):
    begin = turn * 150
    runs.log_batch(run, [MetricPoint("shared", float(worker), step, at) for step in range(begin, begin + 150)])
    runs.log_batch(run, [MetricPoint("same", step / 2, step, at) for step in range(begin, begin + 150)])
    runs.log_batch(run, [MetricPoint(f"wide {number}", float(worker), turn, at) for number in range(300)])
    runs.log_metrics(run, {"single": float(worker), f"own {worker}": 1.0}, turn, at)
    spooled = columns_of(range(begin, begin + 150), [worker] * 150, [0.5] * 150)
    with stores.db.begin() as tx:
        deliver(stores.db, tx, "default", Delivery(f"w{worker}", 0, begin, begin + 150, {run: {"spooled": spooled}}))
    with stores.db.begin() as tx:
        assert not deliver(stores.db, tx, "default", Delivery(f"w{worker}", 0, begin, begin + 90)).applied
print("done", flush=True)
"""
)
ACKNOWLEDGER = (
    OPEN
    + """
moment = sys.argv[6]
write, told = module.write_batches, threading.Event()
def killed_before_the_commit(*arguments):
    outcome = write(*arguments)
    if told.is_set():
        os.kill(os.getpid(), signal.SIGKILL)
    return outcome
def killed_after_the_commit(future, error, settle=module._settle):
    if told.is_set():
        os.kill(os.getpid(), signal.SIGKILL)
    settle(future, error)
if moment == "before the commit":
    module.write_batches = killed_before_the_commit
if moment == "after the commit":
    module._settle = killed_after_the_commit
intake = MetricIntake(stores)
lock = threading.Lock()
def submit(thread):
    for step in range(100_000):
        value = worker * 1e6 + step
        intake.submit("default", run, [MetricPoint(f"m {thread}", value, step, at)]).result()
        with lock:
            print(thread, step, flush=True)
        if step == 25:
            told.set()
for thread in range(4):
    threading.Thread(target=submit, args=(thread,)).start()
"""
)


def start(program: str, stores: Stores, migrations: tuple[str, ...], run: str, *more: str) -> subprocess.Popen[str]:
    url = stores.location.settings.db
    arguments = [str(stores.root), url, ",".join(migrations), run, *more]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_eight_processes_write_one_run_and_lose_and_double_nothing(stores: Stores, migrations: tuple[str, ...]) -> None:
    runs = RunService(stores, Scope())
    run = runs.start().id
    writers = [start(WRITER, stores, migrations, run, str(number)) for number in range(8)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate(timeout=200)[0] for writer in writers] == ["done\n"] * 8
    steps = list(range(12 * 150))
    shared = runs.history(run, "shared")
    assert list(zip(shared.steps, shared.floats(), strict=True)) == [
        (step, float(worker)) for step in steps for worker in range(8)
    ]
    assert runs.history(run, "same").steps == steps
    spooled = runs.history(run, "spooled")
    assert list(zip(spooled.steps, spooled.times_us, strict=True)) == [
        (s, worker) for s in steps for worker in range(8)
    ]
    for key in ("wide 0", "wide 299", "single"):
        wide = runs.history(run, key)
        assert list(zip(wide.steps, wide.floats(), strict=True)) == [
            (turn, float(worker)) for turn in range(12) for worker in range(8)
        ]
    found = runs.get(run).metrics
    assert len(found) == 3 + 300 + 1 + 8
    assert (found["shared"], found["wide 7"], found["single"]) == (7.0, 7.0, 7.0)


@pytest.mark.fault
@pytest.mark.parametrize("moment", ["any", "before the commit", "after the commit"])
def test_what_an_intake_acknowledged_survives_a_kill_once(
    stores: Stores, migrations: tuple[str, ...], tmp_path: Path, moment: str
) -> None:
    runs = RunService(stores, Scope())
    run = runs.start().id
    child = start(ACKNOWLEDGER, stores, migrations, run, "0", moment)
    assert child.stdout is not None
    lines = []
    while moment == "any" and len(lines) < 150:
        lines.append(child.stdout.readline())
    if moment == "any":
        os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    assert child.wait(60) == -signal.SIGKILL
    acknowledged = [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]
    assert len(acknowledged) > 26
    for thread in range(4):
        told = [step for by, step in acknowledged if by == thread]
        history = runs.history(run, f"m {thread}")
        assert history.steps[: len(told)] == told
        assert len(history.steps) in (len(told), len(told) + 1)
        assert history.floats() == [float(step) for step in history.steps]
        assert runs.get(run).metrics[f"m {thread}"] == history.floats()[-1]
    assert stores.db.check() == []
