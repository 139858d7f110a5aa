"""What recording costs the code that records: time per call, and metrics a second that reach the workspace.

    python bench/spool.py                  all measurements, embedded and with a server
    python bench/spool.py --calls 200000   fewer calls

Each measurement counts in the end what the workspace has: a call that is fast because it loses points is worth nothing.
`slow` is a server behind a proxy that holds every answer back for 5 seconds; `killed` is a server that is killed with
SIGKILL while the calls are measured; `down` is an address where nobody listens.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SLOW_S = 5.0


def measure(calls: int, during: Callable[[], None] = lambda: None) -> tuple[str, float, float, float, float]:
    """Time single calls: the run's id, the median, 99th and 99.9th percentile in µs, and the share of the time in calls
    that the calling thread was on a core (a little above 1 where the loop around them weighs)."""
    import loopwright as lw

    taken = [0] * calls
    with lw.start_run(system_metrics_s=0, progress=False) as run:
        for step in range(2000):
            lw.log_metric("warm", 0.5, step)
        threading.Thread(target=during, daemon=True).start()
        now, worked = time.perf_counter_ns, time.thread_time_ns()
        for step in range(calls):
            start = now()
            lw.log_metric("loss", 0.5, step)
            taken[step] = now() - start
        worked = time.thread_time_ns() - worked
    busy = worked / sum(taken)
    taken.sort()
    median, p99, p999 = (taken[int(calls * share)] / 1000 for share in (0.5, 0.99, 0.999))
    return run.id, median, p99, p999, busy


def throughput(calls: int, keys: int) -> tuple[str, float, float, float]:
    """Metrics a second, from the first call to the moment when all are in the workspace: by the clock, and by the
    processor time of this process, which a busy machine does not change. Before them the run's id; after them the share
    of the time until the last call returned."""
    import loopwright as lw

    with lw.start_run(system_metrics_s=0, progress=False) as run:
        run.flush()
        values = {f"m{number}": 0.5 for number in range(keys)}
        start, worked = time.perf_counter(), time.process_time()
        if keys == 1:
            for step in range(calls):
                lw.log_metric("m0", 0.5, step)
        else:
            for step in range(calls // keys):
                lw.log_metrics(values, step)
        count, called = calls // keys * keys, time.perf_counter() - start
        if not run.flush(120.0):
            raise SystemExit(f"not delivered: {run.spool.trouble}")
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
    return run.id, count / seconds, count / worked, called / seconds


def count_of(where: str, run: str, prefix: str = "") -> int:
    """How many points of a run the workspace has."""
    import loopwright as lw

    with lw.connect(where) as ws:
        keys = [key for key in ws.runs.get(run).metrics if key.startswith(prefix)]
        return sum(len(ws.runs.history(run, key).steps) for key in keys)


@contextlib.contextmanager
def server(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`loopwright up` on a workspace."""
    command = [sys.executable, "-m", "loopwright", "up", "--port", str(port), "-w", str(folder), *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LOOPWRIGHT_WORKSPACE": str(folder)},
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


_GIVEN: set[int] = set()


def free_port() -> int:
    """A port where nobody listens, and that nobody else was given: a server may take long to bind it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


@contextlib.contextmanager
def slowly(port: int, delay_s: float = SLOW_S) -> Iterator[int]:
    """A proxy on loopback that holds back whatever the server answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, port, delay_s), daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()


def _accept(listener: socket.socket, port: int, delay_s: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=_pump, args=(near, far, 0.0), daemon=True).start()
            threading.Thread(target=_pump, args=(far, near, delay_s), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            time.sleep(delay_s)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def alone(task: str, where: str, calls: int, folder: Path, keys: int = 1, pid: int = 0) -> list[str]:
    """Run one measurement in a process of its own; the words that it prints."""
    environment = {**os.environ, "LOOPWRIGHT_WORKSPACE": where, "LOOPWRIGHT_SPOOL": str(folder / "spool")}
    command = [sys.executable, __file__, "--task", task, "--calls", str(calls), "--keys", str(keys), "--pid", str(pid)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.split()


def row(name: str, words: list[str], where: str, wanted: int) -> None:
    """Print one line of the table, after the count was compared."""
    run, figures = words[0], words[1:-1]
    found = count_of(where, run, "loss" if len(figures) == 3 else "m")
    verdict = "all there" if found == wanted else f"{found:,} OF {wanted:,}"
    print(f"{name:34} " + " ".join(f"{float(figure):>12,.2f}" for figure in figures) + f"   {verdict}")


def latencies(base: Path, calls: int) -> None:
    """The table of times per call."""
    print(f"{'one call of lw.log_metric, µs':34} {'median':>12} {'p99':>12} {'p99.9':>12}")
    local, remote, port = base / "local", base / "remote", free_port()
    row("embedded", alone("latency", str(local), calls, local), str(local), calls)
    url = f"http://127.0.0.1:{port}"
    down = alone("latency", url, calls, remote)
    with slowly(port) as slow, server(remote, port, "--allow-host", f"127.0.0.1:{slow}"):
        row("server up", alone("latency", url, calls, base / "up"), url, calls)
        late = alone("latency", f"http://127.0.0.1:{slow}", calls, base / "slow")
        sync(url, base / "slow")
        row("server slow (5 s an answer)", late, url, calls)
    with server(remote, port) as process:
        killed = alone("latency", url, calls, base / "killed", pid=process.pid)
    with server(remote, port):
        for place in (remote, base / "killed"):
            sync(url, place)
        row("server down (then synced)", down, url, calls)
        row("server killed (then synced)", killed, url, calls)


def sync(url: str, folder: Path) -> None:
    """Deliver what is left."""
    environment = {**os.environ, "LOOPWRIGHT_SPOOL": str(folder / "spool"), "LOOPWRIGHT_WORKSPACE": url}
    subprocess.run([sys.executable, "-m", "loopwright", "sync"], env=environment, capture_output=True, check=False)


def rates(base: Path, calls: int) -> None:
    """The table of metrics a second."""
    print(f"\n{'metrics a second, durable':34} {'by the clock':>12} {'by CPU time':>12}")
    port = free_port()
    for keys in (1, 100, 1000):
        folder = base / f"rate-{keys}"
        row(
            f"embedded, {keys} a call",
            alone("rate", str(folder), calls, folder, keys),
            str(folder),
            calls // keys * keys,
        )
    url, folder = f"http://127.0.0.1:{port}", base / "rate-server"
    with server(folder, port):
        for keys in (1, 100, 1000):
            words = alone("rate", url, calls, base / f"spool-{keys}", keys)
            row(f"server, {keys} a call", words, url, calls // keys * keys)


def main() -> None:
    """Measure and print, or do one measurement for another process of this program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--task", choices=["latency", "rate"])
    parser.add_argument("--keys", type=int, default=1)
    parser.add_argument("--pid", type=int, default=0)
    given = parser.parse_args()
    if given.task == "rate":
        print(*throughput(given.calls, given.keys))
        return
    if given.task == "latency":
        kill = (lambda: os.kill(given.pid, signal.SIGKILL)) if given.pid else (lambda: None)
        print(*measure(given.calls, kill))
        return
    base = Path(tempfile.mkdtemp(prefix="bench-spool-"))
    try:
        latencies(base, given.calls)
        rates(base, given.calls)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
