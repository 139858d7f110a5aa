"""`loopwright serve` as a process: what it says, what it follows, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.serve.conftest import adding_bundle
from tests.servers import free_port

from loopwright.core import NotFound
from loopwright.models import Bundle
from loopwright.workspace import Workspace, open_workspace

pytestmark = [pytest.mark.slow, pytest.mark.fault]

Start = Callable[..., "Serving"]


class Serving:
    """A running `loopwright serve --json`, or what it said when it did not start."""

    def __init__(self, root: Path, *arguments: str, **env: str) -> None:
        self.log = root / f"serve-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "loopwright", "serve", *arguments, "--json"]
        if "--port" not in arguments:
            command += ["--port", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **env}, cwd=root
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready: dict[str, Any] = json.loads(line) if line else {}
        self.url = self.ready.get("url", "")

    def ask(self, x: float = 1.0) -> tuple[float, str]:
        """The answer for one row, and the version that gave it."""
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [x]}]}
        answer = httpx.post(f"{self.url}/v2/models/{self.ready['name']}/infer", json=body, trust_env=False)
        told = answer.raise_for_status().json()
        return told["outputs"][0]["data"][0], told["model_version"]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Serving] = []

    def begin(*arguments: str, **env: str) -> Serving:
        started.append(Serving(tmp_path, *arguments, **env))
        assert started[-1].url, started[-1].said()
        return started[-1]

    yield begin
    for serving in started:
        if serving.process.poll() is None:
            serving.process.kill()
            serving.process.wait()


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The exit code and the words of a `loopwright serve` that does not start."""

    def run(*arguments: str, **env: str) -> tuple[int, str]:
        serving = Serving(tmp_path, *arguments, **env)
        assert serving.url == ""
        return serving.process.wait(30), serving.said()

    return run


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path) as made:
        yield made


def register(ws: Workspace, tmp_path: Path, amount: float, name: str = "delay") -> str:
    folder = tmp_path / f"bundle-{name}-{amount}"
    return ws.models.register(name, adding_bundle(amount, folder)).ref


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_version_is_served_under_its_registered_name(ws: Workspace, tmp_path: Path, start: Start) -> None:
    register(ws, tmp_path, 1)
    register(ws, tmp_path, 2)
    serving = start("model:delay@1", "--workers", "2", "-w", str(tmp_path))
    assert serving.ready["model"] == "model:delay@1"
    assert (serving.ready["name"], serving.ready["version"]) == ("delay", "1")
    assert serving.ready["pid"] == serving.process.pid
    children = {child.pid for child in psutil.Process(serving.process.pid).children()}
    assert set(serving.ready["pids"]) == children
    assert len(children) == 2
    assert serving.ask() == (2.0, "1")
    assert serving.end() == 0
    assert not any(psutil.pid_exists(pid) for pid in children)
    assert ws.monitors.find_prediction(_last_id(ws)).model == "model:delay@1"


def _last_id(ws: Workspace) -> str:
    from loopwright.serve import read_predictions

    rows, _ = read_predictions(ws.location.data / "journal" / "predictions")
    return rows[-1].id


def test_an_alias_that_moves_swaps_the_model_while_requests_go_on(ws: Workspace, tmp_path: Path, start: Start) -> None:
    first, second = register(ws, tmp_path, 1), register(ws, tmp_path, 2)
    ws.models.set_alias("delay", "live", 1)
    serving = start("delay@live", "-w", str(tmp_path), "--workers", "2")
    stop, failures, seen = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.append(serving.ask())
            except httpx.HTTPError as error:
                failures.append(repr(error))

    caller = threading.Thread(target=ask)
    caller.start()
    ws.models.set_alias("delay", "live", 2)
    until(lambda: (3.0, "2") in seen)
    stop.set()
    caller.join()
    assert failures == []
    assert set(seen) == {(2.0, "1"), (3.0, "2")}
    assert f"delay is now answered by {second}" in serving.said()
    assert first != second
    ws.models.remove_alias("delay", "live")
    until(lambda: "stays as it is" in serving.said())
    assert serving.ask() == (3.0, "2")


def test_an_endpoint_is_served_with_its_traffic_and_follows_it(ws: Workspace, tmp_path: Path, start: Start) -> None:
    first, second = register(ws, tmp_path, 1), register(ws, tmp_path, 2)
    ws.endpoints.create("arrivals", first)
    serving = start("arrivals", "-w", str(tmp_path))
    assert serving.ready["name"] == "arrivals"
    assert serving.ask() == (2.0, "1")
    ws.endpoints.set_traffic("arrivals", {second: 1.0})
    until(lambda: serving.ask() == (3.0, "2"))


def test_a_folder_is_served_without_a_workspace(tmp_path: Path, start: Start) -> None:
    bundle = adding_bundle(5, tmp_path / "five")
    serving = start("--bundle", str(bundle.folder), "--name", "sum")
    assert (serving.ready["name"], serving.ready["model"]) == ("sum", "model:sum@1")
    assert serving.ask() == (6.0, "1")
    assert serving.end(signal.SIGINT) == 0
    assert not (tmp_path / ".loopwright").exists()


def test_a_hangup_replaces_the_workers(tmp_path: Path, start: Start) -> None:
    bundle = adding_bundle(5, tmp_path / "five")
    serving = start("--bundle", str(bundle.folder), "--workers", "2")
    serving.process.send_signal(signal.SIGHUP)
    until(lambda: "all workers were replaced" in serving.said())
    children = {child.pid for child in psutil.Process(serving.process.pid).children()}
    assert len(children) == 2
    assert children.isdisjoint(serving.ready["pids"])
    assert serving.ask() == (6.0, "1")


def test_an_unknown_name_leads_to_those_that_there_are(
    ws: Workspace, tmp_path: Path, refused: Callable[..., tuple[int, str]]
) -> None:
    register(ws, tmp_path, 1)
    ws.endpoints.create("arrivals", "delay")
    code, said = refused("dellay", "-w", str(tmp_path))
    assert code == 3
    assert "there is no model and no endpoint 'dellay' (there is model:delay)" in said
    code, said = refused("model:delay@9", "-w", str(tmp_path))
    assert (code, "has no version 9; the newest is 1" in said) == (3, True)
    code, said = refused("model:delay@best", "-w", str(tmp_path))
    assert (code, "no alias 'best'" in said) == (3, True)
    code, said = refused("endpoint:arrivals", "-w", str(tmp_path))
    assert (code, "has no version yet" in said) == (3, True)
    code, said = refused("dataset:x", "-w", str(tmp_path))
    assert (code, "cannot be served" in said) == (2, True)


def test_a_name_of_two_things_is_asked_back(
    ws: Workspace, tmp_path: Path, refused: Callable[..., tuple[int, str]], start: Start
) -> None:
    ws.endpoints.create("delay", register(ws, tmp_path, 1))
    code, said = refused("delay", "-w", str(tmp_path))
    assert code == 3
    assert "model:delay" in said
    assert "endpoint:delay" in said
    assert start("endpoint:delay", "-w", str(tmp_path)).ask() == (2.0, "1")


def test_a_version_without_a_bundle_is_refused(
    ws: Workspace, tmp_path: Path, refused: Callable[..., tuple[int, str]]
) -> None:
    ws.models.create("notes")
    ws.models.register_source("notes", "s3://elsewhere/model")
    code, said = refused("notes", "-w", str(tmp_path))
    assert code == 3
    assert "no bundle that can be served" in said


def test_a_damaged_bundle_is_refused(tmp_path: Path, refused: Callable[..., tuple[int, str]]) -> None:
    bundle = adding_bundle(5, tmp_path / "five")
    graph = next(path for path in bundle.folder.iterdir() if path.suffix == ".onnx")
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + b"x")
    code, said = refused("--bundle", str(bundle.folder))
    assert code in (4, 5)
    assert "not what was" in said or "damaged" in said or "Corrupt" in said or "changed" in said, said
    graph.write_bytes(whole)
    manifest = bundle.folder / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"max_abs": 0.0', '"max_abs": 0.5'))
    code, said = refused("--bundle", str(bundle.folder))
    assert (code, "the bundle's manifest is not what was built" in said) == (5, True), said


def test_a_taken_port_is_told_at_once(tmp_path: Path, refused: Callable[..., tuple[int, str]]) -> None:
    bundle = adding_bundle(5, tmp_path / "five")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused("--bundle", str(bundle.folder), "--port", str(port))
    assert code == 4
    assert f"port {port} on 127.0.0.1 is in use" in said


@pytest.mark.parametrize(
    ("given", "told"),
    [(("--memory", "1K"), "give a larger --memory"), (("--otlp", "nonsense"), "no address of an OTLP collector")],
)
def test_what_could_never_work_is_told_at_once(
    tmp_path: Path, refused: Callable[..., tuple[int, str]], given: tuple[str, str], told: str
) -> None:
    bundle = adding_bundle(5, tmp_path / "five")
    code, said = refused("--bundle", str(bundle.folder), *given)
    assert code == 4
    assert told in said


@pytest.mark.parametrize("arguments", [(), ("delay", "--bundle", ".")])
def test_one_thing_is_served(
    tmp_path: Path, refused: Callable[..., tuple[int, str]], arguments: tuple[str, ...]
) -> None:
    code, said = refused(*arguments)
    assert code == 2
    assert "MODEL_REF" in said


def test_without_its_database_it_goes_on_and_starts_again_with_what_was_served_last(
    ws: Workspace, tmp_path: Path, start: Start
) -> None:
    register(ws, tmp_path, 1)
    serving = start("delay", "-w", str(tmp_path))
    assert serving.ask() == (2.0, "1")
    ws.close()
    with database_away(tmp_path / ".loopwright"):
        os.kill(serving.ready["pids"][0], signal.SIGKILL)
        until(lambda: answers(serving))
        assert serving.ask() == (2.0, "1")
        assert serving.end() == 0
        again = start("delay", "-w", str(tmp_path))
        assert "what was served last is served again" in again.said()
        assert again.ask() == (2.0, "1")
    until(lambda: "the workspace answers again" in again.said())
    with open_workspace(tmp_path) as ws:
        register(ws, tmp_path, 2)
    until(lambda: again.ask() == (3.0, "2"))


def answers(serving: Serving) -> bool:
    try:
        serving.ask()
    except httpx.HTTPError:
        return False
    return True


class database_away:
    """Within it the workspace's SQLite file cannot be opened."""

    def __init__(self, data: Path) -> None:
        self._file = next(data.glob("*.db"))
        self._away = self._file.with_suffix(".away")

    def __enter__(self) -> None:
        self._file.rename(self._away)
        self._file.mkdir()

    def __exit__(self, *_error: object) -> None:
        self._file.rmdir()
        self._away.rename(self._file)


def test_a_person_is_shown_a_request_that_works(tmp_path: Path) -> None:
    bundle: Bundle = adding_bundle(5, tmp_path / "five")
    command = [sys.executable, "-m", "loopwright", "serve", "--bundle", str(bundle.folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path)
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        example = lines[-1].partition(":")[2].strip()
        assert example.startswith("curl http://127.0.0.1:")
        done = subprocess.run(["bash", "-c", example.replace("curl", "curl -s")], capture_output=True, text=True)
        assert json.loads(done.stdout)["outputs"][0]["data"] == [5.5]
    finally:
        process.terminate()
        process.wait(60)


def test_what_a_hosting_platform_asks_for_is_kept(tmp_path: Path) -> None:
    port = free_port()
    bundle = adding_bundle(5, tmp_path / "five")
    env = {"AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/healthy", "AIP_PREDICT_ROUTE": "/predict"}
    command = [sys.executable, "-m", "loopwright", "serve", "--bundle", str(bundle.folder), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **env})
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["url"] == f"http://127.0.0.1:{port}"
        assert httpx.get(f"http://127.0.0.1:{port}/healthy").status_code == 200
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"instances": [{"x": 1.0}]}).json()
        assert len(answer["predictions"]) == 1
    finally:
        process.terminate()
        process.wait(60)


def test_grpc_is_answered_by_all_workers_on_one_port(tmp_path: Path, start: Start) -> None:
    client = pytest.importorskip("tritonclient.grpc")
    bundle = adding_bundle(5, tmp_path / "five")
    serving = start("--bundle", str(bundle.folder), "--workers", "2", "--grpc-port", "0")
    with client.InferenceServerClient(serving.ready["grpc"]) as triton:
        assert triton.is_model_ready("five")
    assert serving.ready["grpc"].startswith("127.0.0.1:")
    assert serving.end() == 0


def test_the_log_is_moved_into_tables_when_enough_has_gathered(
    ws: Workspace, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loopwright.cli import serve_sources

    register(ws, tmp_path, 1)
    serving = start("delay", "-w", str(tmp_path))
    for number in range(5):
        serving.ask(number)
    tidy = serve_sources.tidier(serve_sources.Asked("delay", str(tmp_path), None))
    tidy()
    with pytest.raises(NotFound):  # little has gathered
        ws.monitors.logged("delay")
    monkeypatch.setattr(serve_sources, "_GATHERED_BYTES", 1)
    tidy()
    assert ws.monitors.logged("delay").rows() == {"predictions": 5}
    assert serving.ask() == (2.0, "1")


def test_a_model_of_a_server_is_fetched_and_followed(ws: Workspace, tmp_path: Path, start: Start) -> None:
    register(ws, tmp_path, 1)
    command = [sys.executable, "-m", "loopwright", "up", "-w", str(tmp_path), "--port", "0", "--json"]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert up.stdout is not None
    try:
        url = json.loads(up.stdout.readline())["url"]
        serving = start("delay", "-w", url, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert serving.ask() == (2.0, "1")
        register(ws, tmp_path, 2)
        until(lambda: serving.ask() == (3.0, "2"))
        up.kill()
        up.wait()
        until(lambda: "stays as it is" in serving.said())
        assert serving.end() == 0
        again = start("delay", "-w", url, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert again.ask() == (3.0, "2")
    finally:
        up.kill()
        up.wait()
        up.stdout.close()
