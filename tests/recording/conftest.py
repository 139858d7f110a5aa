"""Workspaces to record into, and programs that record."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopwright.core import new_id
from loopwright.recording.spooling import close_spools
from loopwright.workspace import Workspace, open_workspace

LOCAL = "LOOPWRIGHT_WORKSPACE"


@pytest.fixture
def root(tmp_path: Path, with_schema: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace's folder, into which this process records by default."""
    folder = with_schema(tmp_path / "workspace")
    monkeypatch.setenv(LOCAL, str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LOOPWRIGHT_SPOOL", raising=False)
    monkeypatch.setenv("LOOPWRIGHT_SYSTEM_METRICS_S", "0")
    yield folder
    close_spools()


@pytest.fixture
def ws(root: Path) -> Iterator[Workspace]:
    """The same workspace, to look into."""
    with open_workspace(root) as opened:
        yield opened


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python program with the environment as it is; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        path = tmp_path / f"{new_id()}.py"  # a file, so that processes it spawns can import it
        path.write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


class Server:
    """`loopwright up` on a folder, at a port of its own that stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> Server:
        command = [sys.executable, "-m", "loopwright", "up", "--port", str(self.port), "--json", "-w", str(self.folder)]
        command += options
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), (self.folder / "up.log").read_text()
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=30)
            self.process = None


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    """A server that is not started yet."""
    made = Server(root)
    yield made
    made.kill()


@contextlib.contextmanager
def slowly(port: int, delay_s: float) -> Iterator[str]:
    """The address of a proxy that holds back whatever the server at a port answers."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=pump, args=(near, far, 0.0), daemon=True).start()
                threading.Thread(target=pump, args=(far, near, delay_s), daemon=True).start()

    def pump(source: socket.socket, sink: socket.socket, wait_s: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(wait_s)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
