"""Real processes, killed, forked and cut off: what was logged arrives, once, and nobody waits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.recording.conftest import Server, slowly
from tests.servers import report_missing

from loopwright.track import OfflineRuns
from loopwright.workspace import Workspace

pytestmark = [pytest.mark.fault, pytest.mark.slow]

Program = Callable[..., "subprocess.Popen[str]"]

TRAIN = """
import sys, time
import loopwright as lw
count, pause_s = int(sys.argv[1]), float(sys.argv[2])
run = lw.start_run("faults", params={"count": count})
print(run.id, flush=True)
for step in range(count):
    lw.log_metric("loss", step / 2, step)
    if step % 100 == 0:
        lw.log_metrics({"a": step, "b": -step}, step)
        print(step, flush=True)
        if pause_s:
            time.sleep(pause_s)
delivered = run.finish()
print("delivered" if delivered else "kept", flush=True)
"""


def synced(where: str, *arguments: str) -> list[dict[str, object]]:
    """What `loopwright sync` delivered."""
    command = [sys.executable, "-m", "loopwright", "sync", "--json", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "LOOPWRIGHT_WORKSPACE": where}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(ws: Workspace, run: str, count: int) -> None:
    """All points are there, once."""
    found = ws.runs.history(run, "loss")
    assert found.steps == list(range(count))
    assert found.values == [step / 2 for step in range(count)]
    assert ws.runs.history(run, "b").values == [-float(step) for step in range(0, count, 100)]


def test_a_killed_training_process_loses_nothing_that_it_logged(ws: Workspace, root: Path, program: Program) -> None:
    """Killed at moments that are spread over its life: before, while and after the first delivery."""
    runs = []
    for wait_s in (0.0, 0.4, 1.1, 2.0):
        process = program(TRAIN, "10000000", "0.005")
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        time.sleep(wait_s)
        process.kill()
        acknowledged = process.communicate()[0].split()
        runs.append((run, int(acknowledged[-1]) if acknowledged else -1))
    synced(str(root))
    assert synced(str(root)) == []
    for run, acknowledged in runs:
        steps = ws.runs.history(run, "loss").steps
        assert steps == list(range(len(steps)))
        assert len(steps) > acknowledged
        assert ws.runs.get(run).status == "killed"
        assert "ended without a word" in ws.runs.get(run).error
    assert list((root / ".loopwright" / "spool").iterdir()) == []


def test_the_next_start_delivers_what_the_killed_one_left(ws: Workspace, program: Program) -> None:
    process = program(TRAIN, "10000000", "0.005")
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    for _ in range(5):
        process.stdout.readline()
    process.kill()
    process.communicate()
    assert program(TRAIN, "1", "0").communicate(timeout=60)[0].split()[-1] == "delivered"
    assert ws.runs.get(run).status == "killed"
    assert len(ws.runs.history(run, "loss").steps) >= 400


AGAIN = """
import sys, time
import loopwright as lw
run = lw.start_run(run_id=sys.argv[1])
run.flush()
print(1, flush=True)
time.sleep(60)
"""


def test_a_run_that_goes_on_elsewhere_is_not_taken_for_dead(ws: Workspace, program: Program) -> None:
    process = program(TRAIN, "10000000", "0.005")
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    process.stdout.readline()
    process.kill()
    process.communicate()
    text = (
        "import sys, time, loopwright as lw\nrun = lw.start_run(run_id=sys.argv[1])\nrun.flush()\nprint(1, flush=True)"
    )
    again = program(text + "\ntime.sleep(60)", run)
    assert again.stdout is not None
    assert again.stdout.readline() == "1\n"
    synced(str(ws.location.root))
    assert ws.runs.get(run).status == "running"


def test_a_run_without_its_server_completes_is_readable_and_arrives_later(
    ws: Workspace, server: Server, program: Program, tmp_path: Path
) -> None:
    process = program(TRAIN, "5000", "0", LOOPWRIGHT_WORKSPACE=server.url)
    out, err = process.communicate(timeout=60)
    run, *_, last = out.split()
    assert (process.returncode, last) == (0, "kept")
    assert "loopwright sync" in err
    offline = OfflineRuns([tmp_path / "cache" / "loopwright" / "spool"])
    assert [item.id for item in offline.search()] == [run]
    found = offline.get(run)
    assert (found.status, found.params, found.metrics["loss"]) == ("finished", {"count": "5000"}, 2499.5)
    assert offline.history(run, "loss").steps == list(range(5000))
    shown = subprocess.run(
        [sys.executable, "-m", "loopwright", "runs", "get", run, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "LOOPWRIGHT_WORKSPACE": server.url},
        check=True,
    )
    assert json.loads(shown.stdout)["metrics"]["loss"] == 2499.5
    assert "does not answer" in shown.stderr
    server.start()
    [told] = synced(server.url)
    assert (told["delivered"], told["points"]) == (True, 5100)
    assert synced(server.url) == []
    check(ws, run, 5000)
    assert ws.runs.get(run).started_at == found.started_at
    assert ws.runs.get(run).ended_at == found.ended_at


def test_a_server_that_is_killed_again_and_again_gets_every_point_once(
    ws: Workspace, server: Server, program: Program
) -> None:
    server.start()
    processes = [program(TRAIN, "300000", "0.002", LOOPWRIGHT_WORKSPACE=server.url) for _ in range(3)]
    chance = random.Random(5)
    for _ in range(3):
        time.sleep(chance.uniform(0.3, 1.5))
        server.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        server.start()
    runs = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        runs.append(out.split()[0])
    synced(server.url)
    for run in runs:
        check(ws, run, 300_000)
        assert ws.runs.get(run).status == "finished"


TIMED = """
import sys, time
import loopwright as lw
run = lw.start_run()
print(run.id, flush=True)
for step in range(1000):
    lw.log_metric("warm", 0.5, step)
taken = []
end = time.perf_counter() + float(sys.argv[1])
step = 0
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    lw.log_metric("loss", step / 2, step)
    taken.append(time.perf_counter_ns() - start)
    if step % 100 == 0:
        lw.log_metrics({"a": step, "b": -step}, step)
        time.sleep(0.002)
    step += 1
run.finish()
taken.sort()
print(step, taken[len(taken) // 2] / 1000, taken[int(len(taken) * 0.99)] / 1000)
"""


@pytest.mark.parametrize("how", ["up", "down", "slow", "killed"])
def test_the_caller_never_waits(ws: Workspace, server: Server, program: Program, how: str) -> None:
    """The bounds are those that are promised; a machine whose processors were shared by ten others kept a third."""
    with slowly(server.port, 5.0) as slow:
        if how != "down":
            server.start("--allow-host", slow.removeprefix("http://"))
        process = program(TIMED, "2.5", LOOPWRIGHT_WORKSPACE=slow if how == "slow" else server.url)
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        if how == "killed":
            threading.Timer(1.0, server.kill).start()
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        if how in ("down", "killed"):
            server.kill()
            server.start()
        synced(server.url)
    steps, median_us, p99_us = (float(word) for word in out.split())
    check(ws, run, int(steps))
    assert median_us < 5
    assert p99_us < 50


FORKS = """
import os, sys, time, multiprocessing
import loopwright as lw
def work(number):
    for step in range(3000):
        lw.log_metric(f"worker/{number}", step, step)
    lw.log_metrics({"all": number}, number)
    lw.log_params({f"p{number}": number})
    if number == 3:
        os.kill(os.getpid(), 9)
    if number == 2:
        with lw.start_run(nested=True, name="own") as own:
            lw.log_metric("mine", number)
def main():
    with lw.start_run() as run:
        print(run.id, flush=True)
        lw.log_metric("before", 1.0)
        workers = [multiprocessing.Process(target=work, args=(number,)) for number in range(4)]
        for worker in workers: worker.start()
        for step in range(3000): lw.log_metric("parent", step, step)
        for worker in workers: worker.join()
        lw.log_metric("after", 1.0)
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
"""


def test_forked_workers_log_to_the_run_of_their_parent(ws: Workspace, root: Path, program: Program) -> None:
    process = program(FORKS)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = out.strip()
    for key in ("parent", "worker/0", "worker/1", "worker/2", "worker/3"):
        assert ws.runs.history(run, key).steps == list(range(3000)), key
    assert ws.runs.history(run, "all").steps == [0, 1, 2, 3]
    stored = ws.runs.get(run)
    assert (stored.status, stored.metrics["before"], stored.metrics["after"]) == ("finished", 1.0, 1.0)
    assert stored.params == {f"p{number}": str(number) for number in range(4)}
    [own] = [item for item in ws.runs.search() if item.name == "own"]
    assert (own.parent, own.metrics, own.status) == (run, {"mine": 2.0}, "finished")
    assert list((root / ".loopwright" / "spool").iterdir()) == []


LOADER = """
import itertools, multiprocessing
import loopwright as lw
def load(number, queue):
    for step in itertools.count():
        lw.log_metric(f"loaded/{number}", step, step)
        queue.put(step)
def main():
    with lw.start_run() as run:
        print(run.id, flush=True)
        queue = multiprocessing.Queue(maxsize=8)
        workers = [multiprocessing.Process(target=load, args=(number, queue), daemon=True) for number in range(3)]
        for worker in workers: worker.start()
        for step in range(2000):
            queue.get()
            lw.log_metric("loss", step, step)
        for worker in workers: worker.terminate()
        for worker in workers: worker.join()
        print(*(worker.exitcode for worker in workers), flush=True)
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
"""


def test_workers_that_load_data_log_until_they_are_terminated(ws: Workspace, program: Program) -> None:
    out, err = program(LOADER).communicate(timeout=120)
    run, *codes = out.split()
    assert codes == [str(-signal.SIGTERM)] * 3, err
    assert ws.runs.get(run).status == "finished"
    assert ws.runs.history(run, "loss").steps == list(range(2_000))
    loaded = [ws.runs.history(run, f"loaded/{number}").steps for number in range(3)]
    assert all(steps == list(range(len(steps))) for steps in loaded)
    assert sum(map(len, loaded)) >= 2_000


def test_eight_processes_record_into_one_workspace_at_once(ws: Workspace, program: Program) -> None:
    processes = [program(TRAIN, "20000", "0") for _ in range(8)]
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert "locked" not in err
        assert out.split()[-1] == "delivered", err
        check(ws, out.split()[0], 20_000)


FULL = """
import os, sys, time
import loopwright as lw
from pathlib import Path
place = Path(sys.argv[1])
run = lw.start_run(system_metrics_s=0)
lw.log_metric("first", 1.0)
for step in range(600_000):
    lw.log_metric("loss", step, step)
lost = run.spool.writer.lost
(place / "filler").unlink()
time.sleep(1.2)
lw.log_metric("last", 1.0)
run.finish()
print(run.id, lost, run.spool.writer.lost)
"""


def test_a_full_disk_does_not_stop_the_training(ws: Workspace, tmp_path: Path) -> None:
    """A real file system of 24 MiB, of which other data fill most; nobody takes the spool's segments away."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        report_missing("mounting a small file system needs root on Linux (unshare -m)")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        report_missing("this container may not mount file systems (unshare -m is refused)")
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"set -e; mount -t tmpfs -o size=24m none {small}; "
        f"dd if=/dev/zero of={small}/filler bs=1M count=10 status=none; "
        f'{sys.executable} -c "$SCRIPT" {small}; cp -r {small}/spool {tmp_path}/kept'
    )
    environment = {
        **os.environ,
        "SCRIPT": FULL,
        "LOOPWRIGHT_SPOOL": str(small / "spool"),
        "LOOPWRIGHT_WORKSPACE": "http://127.0.0.1:9",
    }
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    run, lost, lost_in_all = done.stdout.split()
    assert int(lost) == int(lost_in_all) > 0
    assert done.stderr.count("LOST") == 1
    assert f"has lost {int(lost):,} points" in done.stderr
    offline = OfflineRuns([tmp_path / "kept"])
    kept = offline.history(run, "loss").steps
    assert kept == list(range(600_000 - int(lost)))
    assert offline.get(run).metrics["last"] == 1.0
    assert offline.get(run).tags == {"loopwright.lost_points": lost}


def test_the_spool_outlives_a_signal_that_ends_the_process_in_the_middle_of_a_call(
    ws: Workspace, root: Path, program: Program
) -> None:
    """SIGKILL while many threads log; whole prefixes of each thread's steps arrive."""
    text = """
import threading, time
import loopwright as lw
run = lw.start_run()
print(run.id, flush=True)
def work(number):
    for step in range(10**9):
        lw.log_metric(f"t{number}", step, step)
for number in range(4): threading.Thread(target=work, args=(number,), daemon=True).start()
time.sleep(60)
"""
    process = program(text)
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [told] = synced(str(root))
    assert told["damaged"] == 0
    for number in range(4):
        steps = ws.runs.history(run, f"t{number}").steps
        assert len(steps) > 1000
        assert steps == list(range(len(steps)))


MANY = """
import psutil
import loopwright as lw
def used(): return psutil.Process().memory_full_info().uss >> 20
run = lw.start_run()
for step in range(300_000): lw.log_metric("a", step, step)
run.flush(1)
before = used()
for step in range(1_500_000): lw.log_metric("b", step, step)
run.flush(1)
run.traced()
print(before, used(), sum(path.stat().st_size for path in run.spool.writer.folder.glob("*.segment")) >> 20)
"""


def test_memory_does_not_grow_with_what_waits(root: Path, program: Program) -> None:
    """48 MB of points wait for a server that is away."""
    out, err = program(MANY, LOOPWRIGHT_WORKSPACE="http://127.0.0.1:9").communicate(timeout=120)
    before_mib, after_mib, waiting_mib = (int(word) for word in out.split())
    assert waiting_mib >= 48, err
    assert after_mib < before_mib + 40  # two mapped segments of 16 MB, and what the allocator keeps
