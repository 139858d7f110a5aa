"""kill -9 of the server while eight clients log: each point that was acknowledged is there afterwards, once."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.server.protocols.mlflow.conftest import API

pytestmark = pytest.mark.slow

CLIENTS, KILLS, LOAD_S = 8, 3, 1.5
HEADERS = {"Content-Type": "application/json"}


class Up:
    """A `loopwright up` over a folder; `kill` ends it without a word."""

    def __init__(self, root: Path, db: str = "") -> None:
        command = [sys.executable, "-m", "loopwright", "up", "--workspace", str(root), "--port", "0", "--json"]
        env = {**os.environ, "LOOPWRIGHT_DB": db} if db else None
        with (root / "up.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (root / "up.log").read_text()
        self.url = str(json.loads(line)["url"])

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


def load(url: str, run: str, client: int, first_step: int, acknowledged: list[int]) -> None:
    """Log points over one kept connection until the server is gone; keep the steps that were acknowledged."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    step = first_step
    while True:
        point = {"run_id": run, "key": f"m{client}", "value": step / 7, "timestamp": step, "step": step}
        try:
            connection.request(
                "POST", f"{API}/runs/log-metric", json.dumps(point), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return
        assert (answer.status, body) == (200, b"{}")
        acknowledged.append(step)
        step += 1


def under_load(up: Up, run: str, acknowledged: list[list[int]]) -> None:
    threads = [
        threading.Thread(target=load, args=(up.url, run, client, (kept[-1] if kept else 0) + 1000, kept))
        for client, kept in enumerate(acknowledged)
    ]
    for thread in threads:
        thread.start()
    wanted, until = sum(map(len, acknowledged)) + 100, time.monotonic() + 30
    time.sleep(LOAD_S)
    while sum(map(len, acknowledged)) <= wanted and time.monotonic() < until:  # on a machine that does much else
        time.sleep(0.1)
    up.kill()
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("database", ["", pytest.param("postgres_url", marks=pytest.mark.postgres)])
def test_what_was_acknowledged_is_there_once(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> None:
    db = request.getfixturevalue(database) if database else ""
    acknowledged: list[list[int]] = [[] for _ in range(CLIENTS)]
    up = Up(tmp_path, db)
    run = httpx.post(f"{up.url}{API}/runs/create", json={}, trust_env=False).json()["run"]["info"]["run_id"]
    for _ in range(KILLS):
        before = sum(map(len, acknowledged))
        under_load(up, run, acknowledged)
        assert sum(map(len, acknowledged)) > before + 100
        up = Up(tmp_path, db)
    try:
        for client, kept in enumerate(acknowledged):
            query = {"run_id": run, "metric_key": f"m{client}"}
            told = httpx.get(f"{up.url}{API}/metrics/get-history", params=query, trust_env=False, timeout=60).json()
            steps = [point["step"] for point in told["metrics"]]
            assert len(steps) == len(set(steps))
            assert set(kept) <= set(steps)
            assert len(steps) <= len(kept) + KILLS  # at most the one that was on its way at each kill
            assert all(point["value"] == point["step"] / 7 for point in told["metrics"])
    finally:
        up.kill()
