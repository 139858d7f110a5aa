"""The whole of a workspace's routes × everybody, and signing in."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.ui.conftest import Site

from loopwright.govern import PUBLIC, Authenticator
from loopwright.server import RouteSpec, ServerSettings, create_app
from loopwright.server.run import services_of
from loopwright.ui import page_routes

Guarded = tuple[Site, Callable[[str], str]]
CALLERS = ("nobody", "outsider", "viewer", "editor", "admin")
NEEDED = {"read": "viewer", "write": "editor", "admin": "admin"}


def all_routes(site: Site) -> list[RouteSpec]:
    gate, settings = Authenticator(site.ws.stores), ServerSettings(("x",))
    app = create_app(services_of(site.ws), gate, settings, lambda: None, page_routes())
    routes: list[RouteSpec] = app.state.specs
    return routes


def is_refused(route: RouteSpec, who: str) -> bool:
    if route.permission == PUBLIC:
        return False
    return CALLERS.index(who) < CALLERS.index(NEEDED[route.permission.partition(":")[2]])


@pytest.mark.slow
def test_every_route_of_a_workspace_lets_in_exactly_those_who_may(guarded: Guarded) -> None:
    site, token = guarded
    routes = all_routes(site)
    assert len(routes) > 120
    wrong = []
    for who in CALLERS:
        with site.client(token(who)) as http:
            for route in routes:
                if who not in ("nobody", "outsider") and route.method == "POST" and not is_refused(route, who):
                    continue  # what may change things is asked in the rooms' own tests
                status, location = ask(http, route)
                refused = status in (401, 403) or location.startswith("/login")
                if refused != is_refused(route, who):
                    wrong.append(f"{who} got {status} from {route.method} {route.path} ({route.permission})")
    assert wrong == []


def ask(http: httpx.Client, route: RouteSpec) -> tuple[int, str]:
    path = re.sub(r"\{[^}]*\}", "x", route.path.replace("{project}", "default"))
    body = {"content": b"{}", "headers": {"Content-Type": "application/json"}} if route.method == "POST" else {}
    with http.stream(route.method, path, **body) as answer:  # type: ignore[arg-type]
        return answer.status_code, answer.headers.get("location", "")


def test_a_page_sends_who_is_not_known_to_sign_in_and_back(guarded: Guarded) -> None:
    site, token = guarded
    http = site.client()
    asked = http.get("/p/default/runs?filter=params.a+%3D+'b'")
    assert asked.status_code == 303
    target = parse_qs(urlsplit(asked.headers["location"]).query)["next"][0]
    assert target == "/p/default/runs?filter=params.a+%3D+'b'"
    form = http.get(asked.headers["location"])
    assert 'name="token"' in form.text
    signed = http.post("/login", data={"token": token("viewer"), "next": target})
    assert (signed.status_code, signed.headers["location"]) == (303, target)
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert http.get(target).status_code == 200


@pytest.mark.slow
def test_signing_out_ends_the_session(guarded: Guarded) -> None:
    site, token = guarded
    http = site.client()
    http.post("/login", data={"token": token("editor"), "next": "/"})
    page = http.get("/p/default").text
    csrf = re.search(r'name="csrf" content="([^"]+)"', page)
    assert csrf is not None
    kept = httpx.Client(base_url=site.url, cookies=dict(http.cookies), trust_env=False)
    assert kept.get("/p/default").status_code == 200
    wrong = http.post("/logout", json={}, headers={"Loopwright-CSRF": "1"})
    assert wrong.status_code == 403
    assert http.post("/logout", json={}, headers={"Loopwright-CSRF": csrf[1]}).status_code == 200
    assert kept.get("/p/default").status_code == 303


@pytest.mark.parametrize("secret", ["", "lw_no", "x" * 5000])
def test_a_false_token_is_not_signed_in(guarded: Guarded, secret: str) -> None:
    http = guarded[0].client()
    answer = http.post("/login", data={"token": secret, "next": "/p/default"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?failed=1")
    assert "set-cookie" not in answer.headers
    assert "not valid" in http.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_to_no_other_site(guarded: Guarded, target: str) -> None:
    site, token = guarded
    answer = site.client().post("/login", data={"token": token("viewer"), "next": target})
    assert answer.headers["location"] == "/"


def test_another_sites_form_cannot_sign_anybody_in(guarded: Guarded) -> None:
    site, token = guarded
    answer = site.client().post("/login", data={"token": token("viewer")}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_a_viewer_sees_a_page_and_an_outsider_an_explanation(guarded: Guarded) -> None:
    site, token = guarded
    assert site.client(token("viewer")).get("/p/default/runs").status_code == 200
    refused = site.client(token("outsider")).get("/p/default/runs")
    assert refused.status_code == 403
    assert "has no role in project" in refused.text
