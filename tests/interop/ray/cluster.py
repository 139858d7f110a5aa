"""A Ray cluster of two machines on loopback: a head and another node with one CPU each, which ask for a token."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.servers import answers, free_port

_START_S = 60.0


class Cluster(NamedTuple):
    """Where it listens, and the environment that opens it."""

    address: str
    client: str
    environ: dict[str, str]


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster for the length of a block. Its nodes start in a folder that holds nothing of any project."""
    port, client_port = free_port(), free_port()
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("LOOPWRIGHT_", "RAY_"))}
    environ = {
        **bare,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    program = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    head = ["--head", f"--port={port}", f"--ray-client-server-port={client_port}", "--include-dashboard=false"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_start([*program, *head, "--node-ip-address=127.0.0.1"], folder, environ))
        _wait(port, started[0], folder)
        _wait(client_port, started[0], folder)
        started.append(
            _start([*program, f"--address=127.0.0.1:{port}", "--node-ip-address=127.0.0.1"], folder, environ)
        )
        yield Cluster(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}", environ)
    finally:
        for process in reversed(started):
            _end(process)


def _start(command: list[str], folder: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "ray.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True)


def _wait(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + _START_S
    while not answers(port):
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"Ray did not start: {(folder / 'ray.log').read_text()[-2000:]}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """`ray start --block` ends what it started when it is asked to end; the rest of its group goes with it."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
