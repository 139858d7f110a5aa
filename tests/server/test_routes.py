"""Operations as routes: what goes in, what comes out, what is told when it fails."""

import httpx
import msgspec
import pytest
from tests.server.conftest import Running

from loopwright.core import Invalid, Scope, is_id, operation
from loopwright.govern import PUBLIC
from loopwright.server import RouteSpec, ServerSettings, create_app


@pytest.fixture
def http(server: Running) -> httpx.Client:
    return server.client("admin")


def test_post_takes_a_record_and_gives_one_back(http: httpx.Client) -> None:
    book = {"title": "Odes", "pages": 90, "genre": "verse", "printed": "2020-01-01T00:00:00Z"}
    put = http.post("/api/v1/shelf/put", json={"book": book})
    assert (put.status_code, put.json()) == (200, book)
    assert http.get("/api/v1/shelf/get", params={"title": "Odes"}).json() == book


def test_get_reads_numbers_flags_enums_times_and_lists_from_the_query(http: httpx.Client) -> None:
    for title, pages in [("Long prose", 900), ("Short prose", 90)]:
        book = {"title": title, "pages": pages, "printed": "2021-01-01T00:00:00Z"}
        http.post("/api/v1/shelf/put", json={"book": book})
    titles = lambda query: [book["title"] for book in http.get(f"/api/v1/shelf/find?{query}").json()]  # noqa: E731
    assert titles("pages=475") == ["Long prose"]
    assert titles("thick=true") == ["Long prose"]
    assert titles("genre=verse") == []
    assert titles("words=prose&words=Short") == ["Short prose"]
    assert titles("since=2020-06-01T00:00:00Z") == ["Long prose", "Short prose"]


def test_what_a_query_cannot_carry_is_asked_with_post_only(http: httpx.Client) -> None:
    assert http.get("/api/v1/shelf/weigh", params={"books": "[]"}).status_code == 405
    weighed = http.post("/api/v1/shelf/weigh", json={"books": [{"title": "Emma", "pages": 474}]})
    assert weighed.json() == {"Emma": 1185.0}


def test_what_writes_is_never_asked_with_get(http: httpx.Client) -> None:
    answer = http.get("/api/v1/shelf/burn")
    assert answer.status_code == 405
    assert "POST" in answer.json()["error"]["next_step"]


def test_none_is_null(http: httpx.Client) -> None:
    answer = http.post("/api/v1/shelf/burn", json={})
    assert (answer.status_code, answer.content) == (200, b"null")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "JSON"),
        (b'{"book": {"title": "x"}}', "pages"),
        (b'{"book": {"title": "x", "pages": "9"}}', "$.book.pages"),
        (b'{"book": {"title": "x", "pages": 9}, "extra": 1}', "extra"),
        (b"[]", "object"),
        (b"", "book"),
    ],
)
def test_a_malformed_body_is_refused_by_name(http: httpx.Client, body: bytes, named: str) -> None:
    answer = http.post("/api/v1/shelf/put", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid"
    assert error["where"] == "shelf.put"
    assert named in error["message"]


@pytest.mark.parametrize("query", ["pages=many", "pages=1&pages=2", "colour=red", "genre=opera"])
def test_a_malformed_query_is_refused(http: httpx.Client, query: str) -> None:
    assert http.get(f"/api/v1/shelf/find?{query}").status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("invalid", 400),
        ("forbidden", 403),
        ("not_found", 404),
        ("conflict", 409),
        ("unavailable", 503),
        ("corrupt", 500),
    ],
)
def test_each_kind_of_error_has_its_status_and_tells_no_path(http: httpx.Client, how: str, status: int) -> None:
    answer = http.get("/api/v1/shelf/fail", params={"how": how})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == how
    assert "loopwright.db" in error["message"]
    assert "/home" not in answer.text
    assert "someone" not in answer.text


def test_a_defect_tells_only_its_request(http: httpx.Client) -> None:
    answer = http.get("/api/v1/shelf/fail", params={"how": "defect"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert answer.headers["loopwright-request"] in answer.text
    assert "SELECT" not in answer.text
    assert "RuntimeError" not in answer.text


def test_unknown_paths_and_methods_are_told_as_errors(http: httpx.Client) -> None:
    missing = http.get("/api/v1/shelf/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = http.delete("/api/v1/shelf/get")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == wrong.json()["error"]["next_step"].removeprefix("use ").replace(" or ", ", ")


def test_the_scope_names_actor_project_and_request(http: httpx.Client) -> None:
    answer = http.get("/api/v1/shelf/scope")
    scope = msgspec.json.decode(answer.content, type=Scope)
    assert (scope.actor, scope.project) == ("user:ann", "default")
    request = answer.headers["loopwright-request"]
    assert scope.cause == f"request:{request}"
    assert is_id(request)


def test_the_project_is_named_by_a_header(server: Running) -> None:
    http = server.client("root", **{"Loopwright-Project": "other"})
    assert [book["title"] for book in http.get("/api/v1/shelf/find").json()] == ["Ulysses"]
    refused = server.client("root", **{"Loopwright-Project": "../x"}).get("/api/v1/shelf/find")
    assert refused.status_code == 400
    whole = server.client("root", **{"Loopwright-Project": "*"})
    assert whole.get("/api/v1/shelf/find").status_code == 400
    assert whole.get("/api/v1/tokens/list").status_code == 200


@pytest.mark.slow
def test_the_description_is_valid_openapi_and_names_every_operation(server: Running) -> None:
    from openapi_spec_validator import validate  # loads for three seconds

    description = server.client().get("/openapi.json").json()
    validate(description)
    assert description["openapi"] == "3.1.0"
    assert set(description["paths"]["/api/v1/shelf/get"]) == {"get", "post"}
    assert set(description["paths"]["/api/v1/shelf/put"]) == {"post"}
    assert description["paths"]["/api/v1/shelf/put"]["post"]["x-permission"] == "shelf:write"
    names = {
        (item["name"], item["required"]) for item in description["paths"]["/api/v1/shelf/get"]["get"]["parameters"]
    }
    assert names == {("loopwright-project", False), ("title", True)}


async def _never(_call: object) -> object:
    raise AssertionError


@pytest.mark.parametrize(
    "route",
    [
        RouteSpec("GET", "/x", "", _never),  # type: ignore[arg-type]
        RouteSpec("GET", "/x", "anyone", _never),  # type: ignore[arg-type]
        RouteSpec("PUT", "/x", PUBLIC, _never),  # type: ignore[arg-type]
        RouteSpec("GET", "/health", PUBLIC, _never),  # type: ignore[arg-type]
    ],
)
def test_the_app_does_not_start_with_a_route_that_declares_no_permission_or_is_twofold(
    services: object, route: RouteSpec
) -> None:
    with pytest.raises(Invalid):
        create_app(services, None, ServerSettings(("x",)), lambda: None, [route])  # type: ignore[arg-type]


class Odd:
    @operation("odd.ask", permission="odd:own")
    def ask(self) -> None:
        """An operation whose permission has no known level."""


class Twin:
    @operation("shelf.get", permission="shelf:read")
    def get(self) -> None:
        """The name of another service's operation."""


@pytest.mark.parametrize("kind", [Odd, Twin])
def test_the_app_does_not_start_with_a_malformed_or_doubled_operation(services: dict[str, object], kind: type) -> None:
    services["odd"] = (kind, lambda scope: kind())
    with pytest.raises(Invalid):
        create_app(services, None, ServerSettings(("x",)), lambda: None)  # type: ignore[arg-type]
