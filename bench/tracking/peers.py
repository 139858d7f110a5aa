"""The peers: an environment for each, and how its server is started, watched and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil
from cost import cpu_s, processes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE.parent)]

from spool import free_port  # noqa: E402 - a sibling program, found by the line above

START_S = 180.0
SETTLE_S = 60.0
READY = "/api/2.0/mlflow/experiments/get?experiment_id=0"


def environment(peer: str, where: Path = HERE) -> Path:
    """The interpreter of a peer's environment, made from its pins in `where` if it is not there or they have changed.

    Its bytecode is compiled at once, as ours is: no side compiles what it imports while it is measured. BENCH_ENVS
    names a folder of ready environments to use instead.
    """
    if given := os.environ.get("BENCH_ENVS"):
        return Path(given) / peer / "bin" / "python"
    pins, folder = where / f"{peer}.txt", ROOT / f".bench-{peer}"
    wanted, stamp, python = f"compiled\n{pins.read_text()}", folder / "stamp", folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making {folder.name}", file=sys.stderr, flush=True)
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "-r", str(pins)]
        subprocess.run(install, check=True)
        stamp.write_text(wanted)
    return python


class Server(msgspec.Struct):
    """A running server: where it answers, what it keeps, and how long its first answer took from its start."""

    name: str
    url: str
    pid: int
    folder: Path
    db: str
    start_s: float = 0.0
    start_cpu_s: float = 0.0

    def memory_mb(self) -> list[float]:
        """Memory of each of its processes, shared pages counted once (PSS), in MB, the largest first."""
        return sorted((process.memory_full_info().pss / 1e6 for process in processes(self.pid)), reverse=True)


Servers = dict[str, Server]


def command(name: str, folder: Path, port: int, db: str) -> tuple[list[str], dict[str, str]]:
    """How a server is started: its arguments and further variables."""
    if name == "loopwright":
        up = [sys.executable, "-m", "loopwright", "up", "--port", str(port), "-w", str(folder)]
        return up, {"LOOPWRIGHT_DB": db} if db else {}
    if name == "fasttrackml":
        program = str(environment("fasttrackml").with_name("fml"))
        return [program, "server", "-a", f"127.0.0.1:{port}", *(["-d", db] if db else [])], {}
    program = str(environment("mlflow").with_name("mlflow"))
    where = ["--backend-store-uri", db.replace("postgresql:", "postgresql+psycopg2:", 1)] if db else []
    arguments = [program, "server", "--port", str(port), *where]
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"}
    if name == "mlflow best":
        arguments += ["--workers", "1"]
        variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    return arguments, variables


@contextlib.contextmanager
def serving(name: str, db: str = "") -> Iterator[Server]:
    """A peer's server on an empty workspace, stopped with all its processes at the end.

    Raises:
        RuntimeError: it does not answer in time; the message has the end of its log.
    """
    with _started(name, db) as (process, server, started):
        _wait(process, server, started)
        yield server


@contextlib.contextmanager
def all_serving(names: Sequence[str], fresh: Callable[[str], str], report: Callable[[str], None]) -> Iterator[Servers]:
    """Servers by name, started at once on empty workspaces, and left alone until they have come to rest.

    `mlflow server` answers long before its processes have finished their start: they would take the cores from whatever
    is measured first. One that does not start is reported, and left out.
    """
    with contextlib.ExitStack() as stack:
        begun, ready = [], {}
        for name in names:
            try:
                begun.append(stack.enter_context(_started(name, fresh(name))))
            except (OSError, subprocess.CalledProcessError) as error:
                report(f"{name} does not start: {error}")
        for process, server, started in begun:
            try:
                _wait(process, server, started)
                ready[server.name] = server
            except RuntimeError as error:
                report(str(error))
        settle(list(ready.values()))
        yield ready


def settle(servers: Sequence[Server], patience_s: float = SETTLE_S) -> None:
    """Wait until these servers have used hardly any processor time for two seconds, a minute at most by default."""
    deadline, quiet = time.monotonic() + patience_s, 0
    while quiet < 2 and time.monotonic() < deadline:
        before = sum(cpu_s(server.pid) for server in servers)
        time.sleep(1)
        quiet = quiet + 1 if sum(cpu_s(server.pid) for server in servers) - before < 0.1 else 0


@contextlib.contextmanager
def _started(name: str, db: str) -> Iterator[tuple[subprocess.Popen[bytes], Server, float]]:
    place = Path(tempfile.mkdtemp(prefix="bench-tracking-"))
    arguments, variables = command(name, place, port := free_port(), db)
    started = time.perf_counter()
    with (place / "server.log").open("ab") as log:
        process = subprocess.Popen(arguments, cwd=place, env={**os.environ, **variables}, stdout=log, stderr=log)
    try:
        yield process, Server(name, f"http://127.0.0.1:{port}", process.pid, place, db), started
    finally:
        stop(process)
        shutil.rmtree(place, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], server: Server, started: float) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(server.url + READY, timeout=5) as answer:
            answer.read()
            server.start_s = time.perf_counter() - started
            server.start_cpu_s = cpu_s(process.pid)
            return
        time.sleep(0.02)
    log = (server.folder / "server.log").read_text(errors="replace")
    raise RuntimeError(f"{server.name} does not answer ({process.args!r}):\n{log[-800:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    family = processes(process.pid)
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=15)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait(10)
