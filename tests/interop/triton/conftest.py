"""The inference process of the fronts' own tests, and Triton's own server beside it, in an environment without us."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.serve.fronts.conftest import bundle, fitted, process, rows, trips, wanted, web

__all__ = ["bundle", "fitted", "process", "rows", "trips", "wanted", "web"]

SERVER = Path(sys.prefix) / "server"


@dataclass
class Triton:
    """A running server: where it answers, and what it has told."""

    url: str
    log: Path

    @property
    def address(self) -> str:
        """Host and port, as its client wants them."""
        return self.url.removeprefix("http://")

    def is_ready(self, model: str) -> bool:
        return httpx.get(f"{self.url}/v2/models/{model}/ready").status_code == 200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python backend as the wheel brings it, with the stub of this Python beside it."""
    folder = tmp_path_factory.mktemp("backends")
    [wheel] = SERVER.glob("lib/python3*/site-packages/pytriton/tritonserver")
    shutil.copytree(wheel / "backends", folder, dirs_exist_ok=True)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(wheel / "python_backend_stubs" / python / "triton_python_backend_stub", folder / "python")
    return folder


@pytest.fixture(scope="session")
def start(backends: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Triton]]:
    """Starts Triton with a model repository, on loopback."""
    with ExitStack() as stack:
        yield lambda repository: stack.enter_context(running(backends, repository, tmp_path_factory.mktemp("triton")))


@contextmanager
def running(backends: Path, repository: Path, folder: Path) -> Iterator[Triton]:
    [binary] = SERVER.glob("lib/python3*/site-packages/pytriton/tritonserver/bin/tritonserver")
    port, log = free_port(), folder / "log.txt"
    command = [
        binary, "--model-repository", repository, "--backend-directory", backends, "--http-port", port,
        "--http-address", "127.0.0.1", "--allow-grpc", "false", "--allow-metrics", "false", "--exit-on-error", "false",
        "--disable-auto-complete-config", "--backend-config", f"python,shm-region-prefix-name=loopwright{port}",
    ]  # fmt: skip
    kept = ("HOME", "LANG", "TMPDIR")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    environ["PATH"] = f"{SERVER / 'bin'}{os.pathsep}{os.environ['PATH']}"
    [libraries] = SERVER.glob("lib/python3*/site-packages/nvidia_pytriton.libs")
    environ["LD_LIBRARY_PATH"] = str(libraries)  # the stub lies elsewhere than the wheel put it
    with log.open("wb") as out:
        process = subprocess.Popen([str(part) for part in command], env=environ, stdout=out, stderr=out)
    triton = Triton(f"http://127.0.0.1:{port}", log)
    try:
        end = time.monotonic() + 60
        while not lives(triton.url):
            assert time.monotonic() < end, f"Triton did not start: {log.read_text()[-3000:]}"
            assert process.poll() is None, f"Triton ended with {process.returncode}: {log.read_text()[-3000:]}"
            time.sleep(0.2)
        yield triton
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for left in Path("/dev/shm").glob(f"loopwright{port}*"):  # of a server that had to be killed
            left.unlink(missing_ok=True)


def lives(url: str) -> bool:
    """Whether the server has loaded what it can: it answers only then."""
    try:
        return httpx.get(f"{url}/v2/health/live").status_code == 200
    except httpx.TransportError:
        return False
