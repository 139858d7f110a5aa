from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.track.databases import fresh_database
from tests.ui import story
from tests.ui.crowd import Crowd, gather

from loopwright.core import Location, Scope, Settings
from loopwright.govern import EVERY_PROJECT, Role, TokenService
from loopwright.loop.clock import workspace_clock
from loopwright.store import Stores, open_stores
from loopwright.workspace import MIGRATIONS, Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Site:
    """A served workspace."""

    url: str
    ws: Workspace
    prediction: str = ""

    def client(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30, verify=False)


def stores_at(root: Path, **settings: str) -> Stores:
    """The stores of a workspace with a simulated clock."""
    chosen = Settings(clock="simulated", **settings)  # type: ignore[arg-type]
    location = Location(root, root / ".loopwright", chosen)
    return open_stores(location, MIGRATIONS, clock_of=lambda db: workspace_clock(chosen, db))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The workspace in which something of everything has happened, served in local mode. Tests leave it as it is."""
    ws, prediction = story.whole_story(tmp_path_factory.mktemp("story"), stores_at)
    with story.serving(ws) as url:
        yield Site(url, ws, prediction)
    ws.close()


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def crowd_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, Crowd]]:
    """A served workspace of 2,000 runs, and the ids of the notable ones. Tests leave its runs as they are."""
    with fresh_database(request) as database:
        ws = Workspace(stores_at(tmp_path_factory.mktemp("crowd"), db=database), Scope())
        crowd = gather(ws)
        with story.serving(ws) as url:
            yield Site(url, ws), crowd
        ws.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Site]:
    """An empty workspace, served in local mode, to change at will."""
    ws = Workspace(stores_at(tmp_path), Scope())
    with story.serving(ws) as url:
        yield Site(url, ws)
    ws.close()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Callable[[str], str]]]:
    """An empty workspace that demands tokens, and a function from a kind of caller to a token."""
    ws = Workspace(stores_at(tmp_path_factory.mktemp("guarded"), auth="required"), Scope())
    made = {str(role): TokenService(ws.stores, Scope("default")).create("ann", role).secret for role in Role}
    made["outsider"] = TokenService(ws.stores, Scope("elsewhere")).create("eve", Role.ADMIN).secret
    made["root"] = TokenService(ws.stores, Scope(EVERY_PROJECT)).create("root", Role.ADMIN).secret
    with story.serving(ws) as url:
        yield Site(url, ws), lambda who: made.get(who, "")
    ws.close()


@pytest.fixture(scope="session")
def pages(site: Site) -> dict[str, str]:
    """A path for each kind of page of the story's workspace."""
    ws = site.ws
    by_name = {run.name: run.id for run in ws.runs.search()}  # they began together: no order tells them apart
    runs = [by_name[name] for name in (story.HOSTILE, "logistic-2", "logistic-1")]
    found = {
        "overview": "",
        "loop": "/loops/delay",
        "loop run": f"/loopruns/{ws.loops.runs()[0].id}",
        "scoring": "/scoring",
        "scoring job": "/scoring/nightly",
        "scoring job's monitor": "/monitors/scoring.nightly",
        "endpoints": "/endpoints",
        "endpoint": "/endpoints/delay",
        "rollout": f"/rollouts/{ws.rollouts.list()[0].id}",
        "monitor": "/monitors/delay-daily",
        "prediction": f"/predictions/{site.prediction}",
        "alerts": "/alerts",
        "alert": f"/alerts/{ws.monitors.alerts()[0].id}",
        "approval": f"/approvals/{ws.approvals.list()[0].id}",
        "models": "/models",
        "model": "/models/delay",
        "version": "/models/delay/2",
        "champion": "/models/delay/champion",
        "runs": "/runs",
        "failed run": f"/runs/{runs[0]}",
        "run": f"/runs/{runs[1]}",
        "run files": f"/runs/{runs[1]}/files?path=notes",
        "run file": f"/runs/{runs[1]}/files?path=notes/readme.md",
        "failed run's file": f"/runs/{runs[0]}/files?path=page 'x' %26amp; {{{{y}}}}.html",
        "run code": f"/runs/{runs[1]}/code",
        "run machine": f"/runs/{runs[1]}/system",
        "experiments": "/experiments",
        "deleted experiments": "/experiments?view=deleted",
        "compare": f"/compare?run={runs[0]}&run={runs[1]}&run={runs[2]}&everything=1",
        "traces": "/traces",
        "trace": f"/traces/tr-{7:032x}",
        "datasets": "/datasets",
        "dataset": "/datasets/flights",
        "dataset version": "/datasets/flights/1",
        "features": "/features",
        "feature": "/features/weather",
        "lineage": "/lineage",
        "lineage of a prediction": f"/lineage?ref=prediction:{site.prediction}&direction=up",
        "lineage of a dataset": "/lineage?ref=dataset:flights@1&direction=down",
        "events": "/events",
        "events of a kind": "/events?kinds=alert.opened",
        "event": f"/events/{ws.events.latest(limit=1)[0].id}",
    }
    return {name: f"/p/default{path}" for name, path in found.items()}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A headless Chromium. Not for the session: its event loop runs until it ends, and tests need their own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """A tab that fails the test on any error, refused script or dialogue."""
    opened = browser.new_page()
    troubles: list[str] = []

    def note(message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            troubles.append(message.text)

    opened.on("console", note)
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    yield opened
    opened.close()
    assert troubles == []
