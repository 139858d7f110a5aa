"""The database is away for a while: predictions go on, workers return, and what was logged arrives when it is back."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil
import pytest
from tests.serve.conftest import adding_bundle
from tests.server.test_up import Up

from loopwright.monitor import Feedback
from loopwright.server import RemoteWorkspace
from loopwright.workspace import open_workspace

pytestmark = [pytest.mark.postgres, pytest.mark.fault, pytest.mark.slow]


class Road:
    """A road to a server that can be cut: a port that hands on to another."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.is_open = True
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_open = False
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def mend(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_open:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=hand_on, args=(source, sink), daemon=True).start()


def hand_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def road(postgres_url: str) -> Iterator[Road]:
    made = Road(urlsplit(postgres_url).port or 5432)
    yield made
    made.close()


@pytest.fixture
def up(postgres_url: str, road: Road, tmp_path: Path) -> Iterator[Up]:
    parts = urlsplit(postgres_url)
    host = f"{parts.username}@127.0.0.1:{road.port}" if parts.username else f"127.0.0.1:{road.port}"
    url = urlunsplit(parts._replace(netloc=host))
    (tmp_path / "loopwright.toml").write_text(f'db = "{url}"\ntick_s = 0.2\n', encoding="utf-8")
    with open_workspace(tmp_path) as ws:
        ws.endpoints.create("sums", ws.models.register("adding", adding_bundle(1.0, tmp_path / "bundle")).ref)
    running = Up(tmp_path, "--workers", "2")
    assert running.url, (tmp_path / "up.log").read_text()
    yield running
    running.process.kill()
    running.process.wait()
    running.log.close()


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def ask(url: str, value: float = 1.0) -> str:
    """One prediction; its id, or nothing where there is no answer."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [value]}]}
    try:
        answer = httpx.post(f"{url}/v2/models/sums/infer", json=body, trust_env=False)
    except httpx.HTTPError:
        return ""
    if answer.status_code != 200:
        return ""
    assert answer.json()["outputs"][0]["data"] == [value + 1]
    return str(answer.json()["parameters"]["prediction_ids"][0])


def test_predictions_go_on_and_catch_up(up: Up, road: Road, tmp_path: Path) -> None:
    inference = httpx.get(f"{up.url}/health", trust_env=False).json()["inference"]
    before = [ask(up.url) for _ in range(5)]
    assert all(before)
    road.cut()
    meanwhile = [ask(inference, float(number)) for number in range(20)]
    assert all(meanwhile)
    victims = [child.pid for child in up.children()]
    assert len(victims) == 2
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    until(lambda: ask(inference))
    until(lambda: len([child for child in up.children() if child.pid not in victims and child.is_running()]) == 2)
    meanwhile += [ask(inference, float(number)) for number in range(20)]
    through = [ask(up.url) for _ in range(3)]
    with RemoteWorkspace(up.url) as remote:
        remote.monitors.feedback("sums", [Feedback(meanwhile[0], 1.5)])
    assert all(meanwhile)
    road.mend()
    with open_workspace(tmp_path) as ws:
        wanted = {identifier for identifier in (*before, *meanwhile, *through) if identifier}
        until(lambda: wanted <= {row.id for row in ws.monitors.predictions("sums", 1000)})
        until(lambda: {row.id: row.label for row in ws.monitors.predictions("sums", 1000)}[meanwhile[0]] == 1.5)
    assert all(through), "the control app hands requests on without its database"
    assert psutil.pid_exists(up.process.pid)
