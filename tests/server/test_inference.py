"""The inference process: kept running, and reached through the control app."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.server.conftest import Running

from loopwright.core import NotFound, Scope, Unavailable, operation
from loopwright.serve import InferenceProcess
from loopwright.server.inference import InferenceKeeper


def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[InferenceKeeper]:
    """The real inference process, kept running."""

    def launch() -> InferenceProcess:
        folders = {"journal": tmp_path / "journal", "cache": tmp_path / "cache"}
        return InferenceProcess.start(state=tmp_path / "state.json", objects=str(tmp_path / "objects"), **folders)

    keeper = InferenceKeeper(launch)
    keeper.start()
    assert keeper.wait_ready(60)
    yield keeper
    keeper.stop()


@pytest.fixture
def upstream() -> Iterator[str]:
    """The address of a server that tells what it was sent."""
    program = Path(__file__).with_name("telling.py")
    process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield process.stdout.readline().decode().strip()
    process.communicate()


@pytest.fixture
def local(start: Callable[..., Running], upstream: str) -> Running:
    return start(auth="local", inference=lambda: upstream)


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_answers(keeper: InferenceKeeper) -> None:
    first, pid = keeper.url(), keeper.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: keeper.pid not in (None, pid) and keeper.url() not in (None, first))
    assert httpx.get(f"{keeper.url()}/v2/health/live", trust_env=False).status_code == 200
    assert keeper.starts == 2


def test_a_stopped_process_is_gone_and_stays_gone(keeper: InferenceKeeper) -> None:
    pid = keeper.pid
    assert pid is not None
    keeper.stop()
    assert not psutil.pid_exists(pid)
    assert keeper.url() is None
    assert keeper.starts == 1


@pytest.mark.slow
def test_a_process_that_cannot_start_is_tried_again_ever_more_slowly() -> None:
    def refuse() -> InferenceProcess:
        raise Unavailable("no")

    keeper = InferenceKeeper(refuse)
    keeper.start()
    until(lambda: keeper.starts == 2)
    time.sleep(0.3)
    assert keeper.starts == 2
    assert keeper.url() is None
    assert not keeper.wait_ready(0)
    started = time.monotonic()
    keeper.stop()
    assert time.monotonic() - started < 2


@pytest.mark.slow
def test_the_real_process_answers_through_the_control_app(
    start: Callable[..., Running], keeper: InferenceKeeper
) -> None:
    server = start(auth="local", inference=keeper.url)
    assert server.client().get("/v2/health/ready").status_code == 200
    assert server.client().get("/v2").json()["name"] == "loopwright"
    missing = server.client().post("/v2/models/none/infer", json={"inputs": []})
    assert missing.status_code == 404
    pid = keeper.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: keeper.starts == 2 and keeper.url() is not None)
    until(lambda: server.client().get("/v2/health/ready").status_code == 200)


def test_requests_go_through_with_their_body_path_and_query(local: Running) -> None:
    body = os.urandom(3_000_000)
    answer = local.client().post(
        "/v2/models/de%20lay/infer?x=%2F", content=body, headers={"Content-Type": "application/octet-stream"}
    )
    seen = answer.json()
    assert (answer.status_code, seen["path"]) == (200, "/v2/models/de%20lay/infer?x=%2F")
    assert (seen["bytes"], seen["digest"]) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.slow
def test_connections_to_the_process_are_kept(local: Running) -> None:
    with local.client() as http:
        ports = {http.get("/v2/models/x").json()["connection"] for _ in range(5)}
    assert len(ports) == 1


def test_secrets_of_the_caller_are_not_passed_on(local: Running) -> None:
    http = local.client("root", Cookie="loopwright_session=x", **{"Loopwright-CSRF": "1", "X-Trace": "t"})
    headers = http.get("/v2/models/x").json()["headers"]
    assert headers["x-trace"] == "t"
    assert not {"authorization", "cookie", "loopwright-csrf"} & set(headers)


def test_a_client_of_the_protocol_needs_no_csrf_header_but_a_page_does(local: Running) -> None:
    asked = {"content": b"{}", "headers": {"Content-Type": "application/json"}}
    assert local.client().post("/v2/models/x/infer", **asked).status_code == 200  # type: ignore[arg-type]
    page = {"Origin": local.url, "Sec-Fetch-Site": "same-origin"}
    assert local.client(**page).post("/v2/models/x/infer", **asked).status_code == 403  # type: ignore[arg-type]
    foreign = {"Origin": "https://evil.example"}
    assert local.client(**foreign).post("/v2/models/x/infer", **asked).status_code == 403  # type: ignore[arg-type]
    form = {"content": b"{}", "headers": {"Content-Type": "text/plain"}}
    assert local.client().post("/v2/models/x/infer", **form).status_code == 415  # type: ignore[arg-type]


def test_the_answers_status_comes_back(local: Running) -> None:
    answer = local.client().post("/v2/models/full/infer", json={})
    assert answer.status_code == 503


def test_a_path_that_climbs_is_refused(local: Running) -> None:
    host, port = local.url.removeprefix("http://").split(":")
    import socket

    for path in ("/v2/../metrics", "/v2/%2e%2e/metrics", "/v2/%2E./metrics"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            assert b" 400 " in connection.recv(100), path


def test_a_body_over_the_bound_is_refused(start: Callable[..., Running], upstream: str) -> None:
    server = start(auth="local", inference=lambda: upstream, max_proxy_body_bytes=10_000)
    for content in (b"x" * 20_000, iter([b"x" * 9_000, b"x" * 9_000])):
        answer = server.client().post(
            "/v2/models/x/infer", content=content, headers={"Content-Type": "application/octet-stream"}
        )
        assert answer.status_code == 413
        assert "10000 bytes" in answer.json()["error"]


def test_without_the_process_the_answer_is_a_quick_503(start: Callable[..., Running]) -> None:
    server = start(auth="local", inference=lambda: None)
    answer = server.client().post("/v2/models/x/infer", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "does not run" in answer.json()["error"]
    gone = start(auth="local", inference=lambda: "http://127.0.0.1:1")
    assert gone.client().get("/v2/models/x").status_code == 503


def test_a_process_that_dies_under_a_request_gives_503(local: Running) -> None:
    assert local.client().post("/v2/models/die/infer", json={}).status_code == 503
    assert local.client().get("/v2/models/x").status_code == 503


@pytest.mark.slow
def test_many_requests_at_once_go_through(local: Running) -> None:
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(local.client().post("/v2/models/slow/infer", json={}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20
    assert time.monotonic() - started < 5


def test_metrics_of_both_processes_are_at_one_address(local: Running) -> None:
    local.client().get("/api/v1/shelf/find")
    text = local.client().get("/metrics").text
    assert 'loopwright_control_requests_total{method="GET",route="/api/v1/shelf/find",status="200"} 1.0' in text
    assert "loopwright_inference_up 1.0" in text
    assert "predictions_total 7" in text


class Endpoints:
    """Whose endpoint is whose."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @operation("endpoints.get", permission="endpoints:read")
    def get(self, name: str) -> str:
        """The project of an endpoint."""
        if (self.scope.project, name) not in {("default", "delay"), ("elsewhere", "fraud")}:
            raise NotFound(f"there is no endpoint {name!r}")
        return self.scope.project


@pytest.mark.slow
def test_an_endpoint_of_another_project_is_not_found(
    start: Callable[..., Running], services: dict[str, object], upstream: str
) -> None:
    services["endpoints"] = (Endpoints, Endpoints)
    server = start(inference=lambda: upstream)
    ask = lambda who, name, **headers: (  # noqa: E731
        server.client(who, **headers).post(f"/v2/models/{name}/infer", json={}).status_code
    )
    for _ in range(2):
        assert ask("editor", "delay") == 200
        assert ask("editor", "fraud") == 404
        assert ask("outsider", "fraud", **{"Loopwright-Project": "elsewhere"}) == 200
        assert ask("outsider", "delay", **{"Loopwright-Project": "elsewhere"}) == 404
        assert ask("outsider", "delay") == 403
        assert ask("root", "delay") == 200


@pytest.mark.slow
def test_each_protocol_that_is_handed_on_keeps_projects_apart(
    start: Callable[..., Running], services: dict[str, object], upstream: str
) -> None:
    services["endpoints"] = (Endpoints, Endpoints)
    server = start(inference=lambda: upstream)
    for path in ("/v1/models/{}:predict", "/v1/models/{}/versions/1:predict", "/endpoints/{}/predict"):
        mine, theirs = path.format("delay"), path.format("fraud")
        assert server.client("editor").post(mine, json={}).json()["path"] == mine
        assert server.client("editor").post(theirs, json={}).status_code == 404
        assert server.client("viewer").post(mine, json={}).status_code == 403
    assert server.client("viewer").get("/v1/models/delay/metadata").status_code == 200
    assert server.client("viewer").get("/v1/models/fraud").status_code == 404


@pytest.mark.slow
def test_the_models_of_all_projects_are_an_affair_of_the_workspaces_admins(
    start: Callable[..., Running], upstream: str
) -> None:
    server = start(inference=lambda: upstream)
    for path in ("/v2/repository/index", "/v2/repository/models/delay/unload"):
        assert server.client("editor").post(path, json={}).status_code == 403
        assert server.client("admin").post(path, json={}).status_code == 404
        assert server.client("root").post(path, json={}).status_code == 200
    assert server.client("viewer").get("/v2/models/stats").status_code == 403


def test_where_inference_answers_is_told_to_this_machine_only(start: Callable[..., Running], upstream: str) -> None:
    local, required = start(auth="local", inference=lambda: upstream), start(inference=lambda: upstream)
    assert local.client().get("/health").json()["inference"] == upstream
    assert "inference" not in required.client().get("/health").json()
