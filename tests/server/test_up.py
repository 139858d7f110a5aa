"""`loopwright up` as a process: it says when it is ready, tells what is wrong, and ends as it should."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from loopwright.server import RemoteWorkspace
from loopwright.workspace import SERVICES, operations_in

pytestmark = pytest.mark.slow

Start = Callable[..., "Up"]


class Up:
    """A running `loopwright up --json`."""

    def __init__(self, root: Path, *arguments: str, **env: str) -> None:
        command = [sys.executable, "-m", "loopwright", "up", "--workspace", str(root), "--port", "0", "--json"]
        self.log = (root / "up.log").open("ab")
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, **env}
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready: dict[str, Any] = json.loads(line) if line else {}
        self.url = self.ready.get("url", "")

    def children(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in found if "loopwright.serve" in " ".join(child.cmdline())]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit code and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        return code, time.monotonic() - began


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []

    def begin(*arguments: str, **env: str) -> Up:
        started.append(Up(tmp_path, *arguments, **env))
        assert started[-1].url, (tmp_path / "up.log").read_text()
        return started[-1]

    yield begin
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()
        up.log.close()


def gone(processes: list[psutil.Process], within_s: float = 8.0) -> bool:
    return not psutil.wait_procs(processes, timeout=within_s)[1]


def test_it_says_once_where_it_answers_and_then_it_does(start: Start, tmp_path: Path) -> None:
    up = start()
    assert up.ready["workspace"] == str(tmp_path)
    assert up.ready["pid"] == up.process.pid
    assert httpx.get(f"{up.url}/v2/health/ready", trust_env=False).status_code == 200
    assert httpx.get(f"{up.url}/p/default", trust_env=False).status_code == 200
    with RemoteWorkspace(up.url) as ws:
        run = ws.runs.start("first")
        assert ws.runs.get(run.id) == run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_within_seconds_with_streams_and_connections_open(start: Start, number: int) -> None:
    up = start()
    children = up.children()
    assert len(children) == 1
    with (
        httpx.Client(base_url=up.url, trust_env=False) as kept,
        kept.stream("GET", "/api/v1/events/stream", timeout=30) as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        code, seconds = up.end(number)
    assert code == 0
    assert seconds < 15  # two on a machine that does nothing else; a stream alone would last for 30
    assert gone(children, 2.0)


def test_a_kill_leaves_no_inference_process_and_a_restart_has_everything(start: Start) -> None:
    up = start()
    children = up.children()
    with RemoteWorkspace(up.url) as ws:
        run = ws.runs.start("first", name="kept")
    up.end(signal.SIGKILL)
    assert gone(children)
    again = start()
    with RemoteWorkspace(again.url) as ws:
        assert ws.runs.get(run.id).name == "kept"
        assert ws.events.verify().ok


def test_a_killed_inference_process_comes_back(start: Start) -> None:
    up = start()
    children = up.children()
    children[0].kill()
    assert gone(children)
    end = time.monotonic() + 60
    while httpx.get(f"{up.url}/v2/health/ready", trust_env=False).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_port_in_use_is_told_with_a_next_step(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "loopwright", "up", "--workspace", str(tmp_path), "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 4
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert "--port 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_start_that_demands_tokens_gives_one_that_works_once_printed(start: Start) -> None:
    up = start(LOOPWRIGHT_AUTH="required")
    secret = up.ready["first_token"]
    assert httpx.get(f"{up.url}/api/v1/runs/search", trust_env=False).status_code == 401
    with RemoteWorkspace(up.url, secret) as ws:
        assert ws.runs.search() == []
    with RemoteWorkspace(up.url, secret, "*") as ws:
        made = ws.tokens.create("root", "admin")
    assert (
        httpx.get(
            f"{up.url}/api/v1/runs/search", headers={"Authorization": f"Bearer {secret}"}, trust_env=False
        ).status_code
        == 401
    )
    with RemoteWorkspace(up.url, made.secret) as ws:
        assert ws.runs.search() == []
    up.end()
    assert start(LOOPWRIGHT_AUTH="required").ready["first_token"] == ""


def test_a_wider_bind_demands_tokens(start: Start) -> None:
    up = start("--host", "0.0.0.0")
    assert up.ready["first_token"]
    assert httpx.get(f"{up.url}/api/v1/runs/search", trust_env=False).status_code == 401


def test_a_host_that_was_not_named_is_refused_and_one_that_was_is_not(start: Start) -> None:
    up = start("--allow-host", "models.example.org")
    ask = lambda host: httpx.get(f"{up.url}/health", headers={"Host": host}, trust_env=False).status_code  # noqa: E731
    assert ask("models.example.org") == 200
    assert ask("other.example.org") == 400


def test_every_room_answers_from_afar_as_it_would_here(start: Start) -> None:
    up = start()
    from openapi_spec_validator import validate  # loads for three seconds

    validate(httpx.get(f"{up.url}/openapi.json", trust_env=False).json())
    asked = []
    with RemoteWorkspace(up.url) as ws:
        for room in SERVICES:
            for operation in operations_in(room):
                needs = [field.name for field in msgspec.structs.fields(operation.request_type) if field.required]
                if operation.effect == "read" and not needs:
                    found = ws.call(operation, {})
                    assert msgspec.convert(msgspec.to_builtins(found), operation.result_type, strict=False) == found
                    asked.append(operation.name)
    assert {"runs.search", "models.list", "datasets.list", "loops.overview", "events.list", "endpoints.list"} <= set(
        asked
    )
