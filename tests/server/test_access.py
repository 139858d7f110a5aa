"""Every route × everybody (DESIGN §7 rule 2), and the other rules that stand before a handler."""

import socket
from collections.abc import Callable

import httpx
import pytest
from tests.server.conftest import Running

from loopwright.govern import PUBLIC
from loopwright.server import RouteSpec

CALLERS = ("nobody", "outsider", "viewer", "editor", "admin")
NEEDED = {"read": "viewer", "write": "editor", "admin": "admin"}


def expected(route: RouteSpec, who: str) -> int | None:
    """The status with which a caller is refused; None where he is let in."""
    if route.permission == PUBLIC:
        return None
    if who == "nobody":
        return 401
    needed = NEEDED[route.permission.partition(":")[2]]
    return None if CALLERS.index(who) >= CALLERS.index(needed) else 403


def ask(server: Running, route: RouteSpec, who: str) -> int:
    path = (
        route.path.replace("{probe}", "live").replace("{path:path}", "models/x/infer").replace("{project}", "default")
    )
    with server.client(None if who == "nobody" else who) as http:
        content = {"content": b"{}", "headers": {"Content-Type": "application/json"}} if route.method == "POST" else {}
        with http.stream(route.method, path, **content) as answer:  # type: ignore[arg-type]
            return answer.status_code


@pytest.mark.slow
def test_every_route_lets_in_exactly_those_who_may(server: Running) -> None:
    routes: list[RouteSpec] = server.app.state.specs
    assert len(routes) > 20
    walked = [(route, who, expected(route, who), ask(server, route, who)) for route in routes for who in CALLERS]
    wrong = [
        f"{who} got {status} from {route.method} {route.path} ({route.permission})"
        for route, who, refusal, status in walked
        if status != refusal and (refusal is not None or status in (401, 403))
    ]
    assert wrong == []


@pytest.mark.slow
def test_the_router_has_no_route_beside_the_declared_ones(server: Running) -> None:
    declared = {(spec.path, spec.method) for spec in server.app.state.specs}
    routed = {(route.path, method) for route in server.app.routes for method in route.methods - {"HEAD"}}
    assert routed == declared


def test_a_role_in_one_project_says_nothing_in_another(server: Running) -> None:
    inside = server.client("outsider", **{"Loopwright-Project": "elsewhere"})
    assert inside.get("/api/v1/shelf/find").status_code == 200
    assert server.client("outsider").get("/api/v1/shelf/find").status_code == 403


def test_a_false_token_is_refused_even_where_the_local_user_is_welcome(local: Running) -> None:
    assert local.client().get("/api/v1/shelf/find").status_code == 200
    for value in ("Bearer lw_no", "Bearer", "Basic YTpi", "nonsense"):
        answer = local.client(Authorization=value).get("/api/v1/shelf/find")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.slow
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example", ""])
def test_another_host_is_refused_on_every_path(local: Running, host: str) -> None:
    for path in ("/api/v1/shelf/find", "/openapi.json", "/no/such/path"):
        assert local.client(Host=host).get(path).status_code == 400, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_only_our_own_pages_change_things(local: Running, headers: dict[str, str], status: int) -> None:
    sent = {name: local.url if value == "OWN" else value for name, value in headers.items()}
    for who in (None, "root"):
        http = local.client(who, **sent, **{"Loopwright-CSRF": "1"})
        assert http.post("/api/v1/shelf/burn", json={}).status_code == status
    assert local.client(**sent).get("/api/v1/shelf/find").status_code == 200


def test_the_local_user_needs_the_csrf_header_to_change_things(local: Running) -> None:
    answer = local.client().post("/api/v1/shelf/burn", json={})
    assert (answer.status_code, answer.json()["error"]["where"]) == (403, "Loopwright-CSRF")
    assert local.client(**{"Loopwright-CSRF": "1"}).post("/api/v1/shelf/burn", json={}).status_code == 200


def test_a_bearer_token_needs_no_csrf_header(server: Running) -> None:
    assert server.client("admin").post("/api/v1/shelf/burn", json={}).status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "multipart/form-data", ""],
)
def test_a_body_of_another_type_is_refused(server: Running, kind: str) -> None:
    answer = server.client("admin").post("/api/v1/shelf/burn", content=b"{}", headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_permission_is_judged_before_the_body_is_parsed(server: Running) -> None:
    wrong = {"content": b"{ not json", "headers": {"Content-Type": "application/json"}}
    assert server.client("viewer").post("/api/v1/shelf/put", **wrong).status_code == 403  # type: ignore[arg-type]
    assert server.client("editor").post("/api/v1/shelf/put", **wrong).status_code == 400  # type: ignore[arg-type]


def test_a_refused_caller_is_answered_before_his_body_is_read(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /api/v1/shelf/put HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n")
        assert b"401" in connection.recv(200).split(b"\r\n")[0]


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_bound_is_refused(start: Callable[..., Running], declared: bool) -> None:
    server = start(max_body_bytes=1000)
    body = b'{"book": {"title": "' + b"x" * 2000 + b'", "pages": 1}}'
    content = body if declared else iter([body[:900], body[900:]])
    answer = server.client("admin").post(
        "/api/v1/shelf/put", content=content, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host"])
def test_what_came_through_another_server_is_not_the_local_user(local: Running, header: str) -> None:
    assert local.client(**{header: "203.0.113.9"}).get("/api/v1/shelf/find").status_code == 401


def test_local_mode_is_off_where_tokens_are_demanded_or_the_bind_is_wider(start: Callable[..., Running]) -> None:
    assert start(auth="required").client().get("/api/v1/shelf/find").status_code == 401
    assert start(auth="local", loopback=False).client().get("/api/v1/shelf/find").status_code == 401


def test_a_session_reads_with_its_cookie_and_changes_with_its_csrf_value(server: Running) -> None:
    from loopwright.govern import Authenticator

    session = Authenticator(server.stores).open_session(server.tokens["admin"])
    cookie = {"Cookie": f"loopwright_session={session.cookie}"}
    assert server.client(**cookie).get("/api/v1/shelf/find").status_code == 200
    burn = lambda **headers: server.client(**cookie, **headers).post("/api/v1/shelf/burn", json={}).status_code  # noqa: E731
    assert burn() == 403
    assert burn(**{"Loopwright-CSRF": "1"}) == 403
    assert burn(**{"Loopwright-CSRF": session.csrf}) == 200
    assert server.client(Cookie="loopwright_session=nonsense").get("/api/v1/shelf/find").status_code == 401


def test_nothing_is_shared_with_other_origins(local: Running) -> None:
    asked = httpx.options(
        f"{local.url}/api/v1/shelf/burn",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        trust_env=False,
    )
    assert "access-control-allow-origin" not in asked.headers
