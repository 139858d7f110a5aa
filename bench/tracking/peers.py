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
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE.parent)]

from spool import free_port  # noqa: E402 - a sibling program, found by the line above

START_S = 180.0


def environment(peer: str) -> Path:
    """The interpreter of a peer's environment, made from its pins if it is not there or the pins have changed.

    BENCH_ENVS names a folder of ready environments to use instead.
    """
    if given := os.environ.get("BENCH_ENVS"):
        return Path(given) / peer / "bin" / "python"
    pins, folder = HERE / f"{peer}.txt", ROOT / f".bench-{peer}"
    stamp, python = folder / "stamp", folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        print(f"making {folder.name}", file=sys.stderr, flush=True)
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(pins)], check=True)
        stamp.write_text(pins.read_text())
    return python


class Server(msgspec.Struct):
    """A running server: where it answers, and how long its first answer took from the start of its process."""

    name: str
    url: str
    pid: int
    start_s: float

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def cpu_s(self) -> float:
        """Processor time of all its processes so far, in seconds."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(item.user + item.system for item in times)

    def memory_mb(self) -> float:
        """Memory of all its processes, shared pages counted once (PSS), in MB."""
        return sum(process.memory_full_info().pss for process in self._processes()) / 1e6


def command(name: str, folder: Path, port: int, db: str) -> tuple[list[str], dict[str, str], str]:
    """How a server is started: its arguments, further variables, and a path that it answers when it is ready."""
    if name == "loopwright":
        up = [sys.executable, "-m", "loopwright", "up", "--port", str(port), "-w", str(folder)]
        return up, {"LOOPWRIGHT_DB": db} if db else {}, "/api/2.0/mlflow/experiments/get?experiment_id=0"
    if name == "fasttrackml":
        program = str(environment("fasttrackml").with_name("fml"))
        where = ["-d", db] if db else []
        return (
            [program, "server", "-a", f"127.0.0.1:{port}", *where],
            {},
            "/api/2.0/mlflow/experiments/get?experiment_id=0",
        )
    program = str(environment("mlflow").with_name("mlflow"))
    arguments = [program, "server", "--port", str(port), *(["--backend-store-uri", db] if db else [])]
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"}
    if name == "mlflow best":
        arguments += ["--workers", "1"]
        variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    return arguments, variables, "/api/2.0/mlflow/experiments/get?experiment_id=0"


@contextlib.contextmanager
def serving(name: str, db: str = "", folder: Path | None = None) -> Iterator[Server]:
    """A peer's server on an empty workspace (or the one in `folder`), stopped with all its processes at the end."""
    place = folder or Path(tempfile.mkdtemp(prefix="bench-tracking-"))
    arguments, variables, path = command(name, place, port := free_port(), db)
    url, started = f"http://127.0.0.1:{port}", time.perf_counter()
    with (place / "server.log").open("ab") as log:
        process = subprocess.Popen(arguments, cwd=place, env={**os.environ, **variables}, stdout=log, stderr=log)
    try:
        _wait(process, url + path, place / "server.log")
        yield Server(name, url, process.pid, time.perf_counter() - started)
    finally:
        _stop(process)
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            answer.read()
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} does not answer:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=15)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait(10)
