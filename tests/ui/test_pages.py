"""Every page of a workspace in which everything has happened, and of one in which nothing has."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from tests.ui import story
from tests.ui.conftest import Site

from loopwright.ui import page_routes

KINDS = (
    "overview loop|loop run|endpoints|endpoint|rollout|monitor|prediction|alerts|alert|approval|models|model|version|"
    "champion|runs|failed run|run|run files|run file|failed run's file|run code|run machine|experiments|"
    "deleted experiments|compare|traces|trace|datasets|dataset|dataset version|features|feature|lineage|"
    "lineage of a prediction|lineage of a dataset|events|events of a kind|event"
).replace("overview loop", "overview|loop")
every_page = pytest.mark.parametrize("kind", KINDS.split("|"))

EXPECTED = {
    "overview": ["waiting approval", "Waiting for a person", "has degraded", "Open alerts"],
    "loop": ["flights:train", "an alert about performance of monitor delay-daily"],
    "loop run": ["approval requested", "model version created"],
    "endpoint": ["delay@1 · 100", "wind (PSI", "rollout completed", "brier", "Numbers"],
    "monitor": ["windows of 1 d", "user:ann", "is certainly above"],
    "prediction": ["carrier_delay", "probability", "flight-0", "dataset:flights@1"],
    "alert": ["is certainly above", "threshold", "0.24"],
    "version": ["Proof of conversion", "distance", "Will this flight be late?", "dataset:flights@2"],
    "champion": ["model:delay@1", "champion"],
    "run": ["loss", "logistic", "notes/", "lowest", "Came from"],
    "run files": ["readme.md", "8 B"],
    "run file": ["notes", "Download"],
    "failed run's file": ["<script>1</script>"],
    "experiments": ["delay", "3 finished", "1 failed"],
    "compare": ["logistic-1", "0.72"],
    "traces": ["ask", "4.0 s", "late", "helpful: no"],
    "trace": ["ask", "CHAIN", "1.0 s", "exception.message", "helpful", "error"],
    "dataset version": ["not_null(wind)", "40 of 2000 rows fail", "carrier_delay", "2026-01-01"],
    "lineage of a prediction": ["<svg", "environment", "predicted"],
    "lineage of a dataset": ["5 600".replace(" ", "\u2009"), "serves"],
    "events of a kind": ["alert opened", "drifted"],
}


class Reader(HTMLParser):
    """What a browser without JavaScript sees: elements, links and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.attributes: list[str] = []
        self.text = ""
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.attributes += found
        self._hidden = tag in ("script", "style")
        if tag == "script":
            self.scripts.append(found)
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


@pytest.mark.slow
@every_page
def test_a_page_shows_what_it_is_about_without_javascript(site: Site, pages: dict[str, str], kind: str) -> None:
    answer = site.client().get(pages[kind])
    assert answer.status_code == 200
    for expected in EXPECTED.get(kind, []):
        assert expected in (answer.text if expected == "<svg" else Reader(answer.text).text), expected


@pytest.mark.slow
@every_page
def test_a_page_has_a_json_twin_with_the_same_facts(site: Site, pages: dict[str, str], kind: str) -> None:
    path = pages[kind]
    link = next(link for link in Reader(site.client().get(path).text).links if "format=json" in link)
    twin = site.client().get(link)
    assert twin.status_code == 200
    assert twin.headers["content-type"] == "application/json"
    values = twin.json()
    assert values["title"]
    assert len(values) > 1


@pytest.mark.slow
@every_page
def test_a_hostile_name_is_text_and_nothing_else(site: Site, pages: dict[str, str], kind: str) -> None:
    page = site.client().get(pages[kind]).text
    reader = Reader(page)
    assert "<script>alert" not in page
    assert not [name for name in reader.attributes if name.startswith("on")]
    inline = [found for found in reader.scripts if "src" not in found and found.get("type") != "application/json"]
    assert inline == []


def test_the_hostile_name_is_shown_as_it_was_given(site: Site, pages: dict[str, str]) -> None:
    for kind in ("runs", "failed run", "trace", "events", "compare"):
        assert story.HOSTILE in Reader(site.client().get(pages[kind]).text).text, kind


@pytest.mark.slow
def test_every_link_of_every_page_leads_somewhere(site: Site, pages: dict[str, str]) -> None:
    http = site.client()
    links = {urljoin(path, link) for path in pages.values() for link in Reader(http.get(path).text).links}
    inner = {link for link in links if not urlsplit(link).fragment}
    assert len(inner) > 60
    broken = {link: http.get(link, follow_redirects=True).status_code for link in inner}
    assert {link: status for link, status in broken.items() if status != 200} == {}


@pytest.mark.slow
def test_every_page_forbids_foreign_scripts_frames_and_sniffing(site: Site, pages: dict[str, str]) -> None:
    for path in [*pages.values(), "/login", "/p/default/models/nothing"]:
        headers = site.client().get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert re.search(r"script-src 'self';", policy)
        assert headers["x-content-type-options"] == "nosniff"


def test_a_file_of_a_run_is_a_download_that_no_browser_interprets(site: Site, pages: dict[str, str]) -> None:
    http = site.client()
    link = next(link for link in Reader(http.get(pages["failed run's file"]).text).links if "/artifacts/" in link)
    answer = http.get(link)
    assert answer.content == b"<script>1</script>"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert http.get(link.rsplit("/", 1)[0] + "/nothing").status_code == 404
    assert http.get(link.rsplit("/artifacts/", 1)[0] + "/artifacts/..%2f..%2floopwright.toml").status_code in (400, 404)


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/p/default/models/nothing", 404, "nothing"),
        ("/p/default/runs/0123", 404, "0123"),
        ("/p/default/lineage?ref=nonsense", 200, "is not a ref"),
        ("/p/default/lineage?ref=dataset:none@7", 200, "none"),
        ("/p/default/runs?filter=metrics.auc+>>+1", 200, "metrics.auc"),
        ("/p/default/compare?run=x", 400, "choose two or more"),
        ("/p/..%2f/runs", 404, ""),
        ("/p/a%20b/runs", 400, "cannot name a project"),
    ],
)
def test_a_wrong_address_is_explained_on_a_page(site: Site, path: str, status: int, told: str) -> None:
    answer = site.client().get(path)
    assert answer.status_code == status
    assert told in Reader(answer.text).text or told in answer.text
    assert "Traceback" not in answer.text
    assert str(site.ws.location.root) not in answer.text


def test_an_error_has_a_json_twin_too(site: Site) -> None:
    answer = site.client().get("/p/default/models/nothing?format=json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_name_with_signs_of_an_address_leads_to_its_own_page_and_twin(fresh: Site) -> None:
    name = "a%2fb?c#d e"
    fresh.ws.models.create(name)
    with fresh.client() as client:
        page = next(link for link in Reader(client.get("/p/default/models").text).links if "models/a" in link)
        twin = next(link for link in Reader(client.get(f"{page}?x=1&x=2").text).links if "format=json" in link)
        assert client.get(twin).json()["title"] == name
    assert twin.endswith("?x=1&x=2&format=json")


EMPTY = {
    "": "No loop is declared yet",
    "/endpoints": "No endpoint yet",
    "/alerts": "No alert was ever opened",
    "/models": "No model is registered",
    "/runs": "No run yet",
    "/traces": "No trace yet",
    "/datasets": "No dataset yet",
    "/features": "No feature view yet",
    "/lineage": "Trace anything",
    "/events": "Nothing has happened yet",
}


@pytest.mark.slow
def test_an_empty_workspace_says_on_each_page_what_to_do_next(fresh: Site) -> None:
    http = fresh.client()
    for path, told in EMPTY.items():
        answer = http.get(f"/p/default{path}")
        assert answer.status_code == 200, path
        assert told in answer.text, path
    front = http.get("/", follow_redirects=True)
    assert front.url.path == "/p/default"


def test_a_project_without_anything_shows_nothing_of_another(site: Site) -> None:
    for path, told in EMPTY.items():
        assert told in site.client().get(f"/p/other{path}").text, path
    assert site.client().get("/p/other/models/delay/1").status_code == 404
    assert site.client().get("/p/other/endpoints/delay").status_code == 404


def test_assets_come_from_here_packed_and_for_ever(site: Site) -> None:
    page = site.client().get("/p/default/endpoints/delay").text
    found = set(re.findall(r"/static/[0-9a-f]{16}/[\w.]+", page))
    assert {path.rsplit("/", 1)[1] for path in found} == {"loopwright.css", "pages.js", "icon.svg", "plotly.min.js"}
    for path in found:
        answer = site.client().get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
    assert site.client().get("/static/0/passwd").status_code == 404
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page)


def test_every_page_route_declares_a_reading_permission() -> None:
    assert {route.permission.partition(":")[2] or route.permission for route in page_routes()} == {"read", "public"}
