"""Who may ask MLflow's routes what, and how refusals before a handler are told."""

from __future__ import annotations

import httpx
import pytest
from tests.server.protocols.mlflow.conftest import API, Server, error

from loopwright.govern import PUBLIC, Role
from loopwright.server import RouteSpec

CALLERS = ("nobody", "outsider", "viewer", "editor", "admin")
NEEDED = {"read": "viewer", "write": "editor", "admin": "admin"}


def expected(route: RouteSpec, who: str) -> int | None:
    if route.permission == PUBLIC:
        return None
    if who == "nobody":
        return 401
    needed = NEEDED[route.permission.partition(":")[2]]
    return None if CALLERS.index(who) >= CALLERS.index(needed) else 403


def path_of(route: RouteSpec) -> str:
    return route.path.replace("{project}", "default").replace(":path}", "}").replace("{", "").replace("}", "")


def test_every_route_lets_in_exactly_those_who_may(guarded: Server) -> None:
    headers = {
        "nobody": {},
        "outsider": guarded.token(Role.ADMIN, "elsewhere"),
        "viewer": guarded.token(Role.VIEWER),
        "editor": guarded.token(Role.EDITOR),
        "admin": guarded.token(Role.ADMIN),
    }
    assert len(guarded.routes) > 50
    wrong = []
    for route in guarded.routes:
        for who in CALLERS:
            sent = {"json": {}} if route.method != "GET" else {}
            answer = guarded.http.request(route.method, path_of(route), headers=headers[who], **sent)  # type: ignore[arg-type]
            refusal = expected(route, who)
            if answer.status_code != refusal and (refusal is not None or answer.status_code in (401, 403)):
                wrong.append(f"{who} got {answer.status_code} from {route.method} {route.path} ({route.permission})")
    assert wrong == []


def test_every_route_answers_at_the_root_and_per_project(guarded: Server) -> None:
    paths = {(route.method, route.path) for route in guarded.routes}
    at_root = {(method, path) for method, path in paths if not path.startswith("/projects/")}
    below = {(method, f"/projects/{{project}}{path}") for method, path in at_root}
    assert below | {("GET", "/projects/{project}/health")} == paths - at_root  # the server's own answers at the root


def test_a_viewer_reads_and_does_not_write(guarded: Server) -> None:
    viewer = guarded.token(Role.VIEWER)
    seen = guarded.http.post(f"{API}/runs/search", json={"experiment_ids": ["0"]}, headers=viewer)
    assert seen.status_code == 200
    status, code, _ = error(guarded.http.post(f"{API}/runs/create", json={}, headers=viewer))
    assert (status, code) == (403, "PERMISSION_DENIED")


def test_a_project_is_its_own_world(server: Server) -> None:
    there = "/projects/vision"
    run = server.post("runs/create", there)["run"]["info"]["run_id"]
    server.post("runs/log-parameter", there, run_id=run, key="lr", value="1")
    assert server.get("runs/get", there, run_id=run)["run"]["data"]["params"] == [{"key": "lr", "value": "1"}]
    status, code, message = error(server.http.get(f"{API}/runs/get", params={"run_id": run}))
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "'default'" in message


def test_a_project_with_an_unsafe_name_is_refused(server: Server) -> None:
    assert server.http.get(f"/projects/..%2F..%2Fetc{API}/experiments/search").status_code == 404
    assert error(server.http.get(f"/projects/a b{API}/experiments/search"))[0] == 400


@pytest.mark.parametrize("prefix", ["", "/projects/vision"])
def test_the_paths_of_mlflows_own_pages_are_the_same_routes(server: Server, prefix: str) -> None:
    answer = server.http.get(f"{prefix}/ajax-api/2.0/mlflow/experiments/get", params={"experiment_id": "0"})
    assert answer.json()["experiment"]["name"] == "Default"
    assert server.http.get(f"{prefix}/ajax-api/3.0/mlflow/server-info").json()["workspaces_enabled"] is False


@pytest.mark.parametrize("prefix", ["", "/projects/vision"])
def test_what_clients_ask_first(guarded: Server, prefix: str) -> None:
    version = guarded.http.get(f"{prefix}/version")
    assert version.headers["content-type"].startswith("text/plain")
    assert version.text.split(".")[0] == "3"
    info = guarded.http.get(f"{prefix}/api/3.0/mlflow/server-info").json()
    assert info["store_type"] == "SqlStore"
    assert guarded.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", f"{API}/nothing/here", {}, 404, "ENDPOINT_NOT_FOUND"),
        ("GET", f"/projects/p{API}/nothing", {}, 404, "ENDPOINT_NOT_FOUND"),
        ("GET", "/ajax-api/2.0/mlflow/nothing", {}, 404, "ENDPOINT_NOT_FOUND"),
        ("GET", f"{API}/runs/create", {}, 405, "BAD_REQUEST"),
        ("DELETE", f"{API}/runs/get", {}, 405, "BAD_REQUEST"),
        ("POST", f"{API}/runs/create", {"Content-Type": "text/plain"}, 415, "BAD_REQUEST"),
        ("POST", f"{API}/runs/create", {"Host": "evil.example"}, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", f"{API}/nothing", {"Host": "evil.example"}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/create", {"Origin": "https://evil.example"}, 403, "PERMISSION_DENIED"),
        ("POST", f"{API}/runs/create", {"Sec-Fetch-Site": "same-origin"}, 403, "PERMISSION_DENIED"),
        ("POST", f"{API}/runs/create", {"Authorization": "Bearer lw_no"}, 401, "UNAUTHENTICATED"),
        ("POST", f"{API}/runs/create", {"Authorization": "Basic YTpi"}, 401, "UNAUTHENTICATED"),
    ],
)
def test_a_refusal_before_the_handler_has_mlflows_shape(
    server: Server, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    sent = {"Content-Type": "application/json", **headers}
    answer = server.http.request(method, path, content=b"" if method == "GET" else b"{}", headers=sent)
    assert error(answer)[:2] == (status, code)


def test_a_body_over_the_bound_is_refused_in_mlflows_shape(server: Server) -> None:
    body = b'{"run_id": "' + b"x" * (9 << 20) + b'"}'
    answer = server.http.post(f"{API}/runs/log-batch", content=body, headers={"Content-Type": "application/json"})
    assert error(answer)[:2] == (413, "BAD_REQUEST")


def test_a_json_body_may_name_its_charset(server: Server) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert server.http.post(f"{API}/runs/create", content=b"{}", headers=headers).status_code == 200


def test_a_defect_is_told_without_its_cause(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopwright.track import RunService

    def broken(*_: object) -> None:
        raise RuntimeError("SELECT secret FROM /home/someone")

    monkeypatch.setattr(RunService, "get", broken)
    status, code, message = error(server.http.get(f"{API}/runs/get", params={"run_id": "x"}))
    assert (status, code) == (500, "INTERNAL_ERROR")
    assert "SELECT" not in message


def test_an_unavailable_store_asks_the_client_to_come_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopwright.core import Unavailable
    from loopwright.track import RunService

    def away(*_: object) -> None:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(RunService, "get", away)
    answer: httpx.Response = server.http.get(f"{API}/runs/get", params={"run_id": "x"})
    assert error(answer)[:2] == (503, "TEMPORARILY_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"
