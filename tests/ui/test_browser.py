"""The pages in a real browser: figures drawn, live changes, buttons, both colour schemes, no script from a name."""

import re

import pytest
from playwright.sync_api import Browser, Page
from tests.ui import story
from tests.ui.conftest import Site

from loopwright.core import Scope

pytestmark = pytest.mark.browser


def test_no_page_runs_a_script_from_a_name_or_reports_an_error(site: Site, pages: dict[str, str], page: Page) -> None:
    dialogues: list[str] = []
    page.on("dialog", lambda dialog: (dialogues.append(dialog.message), dialog.dismiss()))
    for path in pages.values():
        page.goto(site.url + path)
        if page.locator("[data-figure]").count():
            page.wait_for_selector("html[data-drawn]")
    assert dialogues == []


def test_figures_are_drawn_with_their_data(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/p/default/endpoints/delay")
    page.wait_for_selector("html[data-drawn]")
    assert page.locator(".js-plotly-plot").count() >= 3
    points = page.evaluate("document.querySelector('[data-figure=\"performance-brier\"]').data[0].y.length")
    assert points >= story.DAYS - 2
    drifted = page.evaluate("document.querySelector('[data-figure=\"drift\"]').data[1].y")
    assert set(drifted) == {"wind"}


def test_without_javascript_a_page_reads_the_same(site: Site, browser: Browser) -> None:
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{site.url}/p/default/endpoints/delay")
    assert "is certainly above" in plain.inner_text("main")
    plain.locator("details", has_text="Numbers").first.locator("summary").click()
    assert plain.locator("details[open] td").count() > 3
    assert plain.locator("button:visible").count() == 0
    plain.goto(f"{site.url}/p/default/lineage?ref=prediction:{site.prediction}&direction=up")
    assert plain.locator("svg .box").count() >= 4
    plain.locator("svg a", has_text="dataset").first.click()
    assert plain.inner_text("h1") == "flights version 1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_colour_scheme(site: Site, browser: Browser, scheme: str) -> None:
    tab = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    tab.goto(f"{site.url}/p/default/endpoints/delay")
    tab.wait_for_selector("html[data-drawn]")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    text = tab.evaluate("document.querySelector('.js-plotly-plot').layout.font.color")
    lightness = [int(part) for part in re.findall(r"\d+", ground)[:3]]
    assert (sum(lightness) > 600) is (scheme == "light")
    assert text == tab.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--faint').trim()")
    tab.close()


def test_a_page_changes_by_itself_when_something_happens(fresh: Site, page: Page) -> None:
    page.goto(f"{fresh.url}/p/default/runs")
    assert "No run yet" in page.inner_text("main")
    page.wait_for_selector("[data-pulse]:not(.lost):not([hidden])")
    fresh.ws.runs.start("first", name="brand-new")
    page.wait_for_selector("text=brand-new", timeout=8000)
    assert "No run yet" not in page.inner_text("main")


def test_another_projects_events_do_not_stir_a_page(fresh: Site, page: Page) -> None:
    page.goto(f"{fresh.url}/p/default/runs")
    page.wait_for_selector("[data-pulse]:not(.lost):not([hidden])")
    fresh.ws.scoped(Scope("other")).runs.start("first", name="elsewhere")
    fresh.ws.runs.start("first", name="here")
    page.wait_for_selector("text=here", timeout=8000)
    assert "elsewhere" not in page.inner_text("main")


def test_a_button_asks_first_and_then_acts(fresh: Site, page: Page) -> None:
    story.tell(fresh.ws)
    story.release(fresh.ws)
    story.candidate(fresh.ws)
    assert [approval.state for approval in fresh.ws.approvals.list()] == ["requested"]
    page.goto(f"{fresh.url}/p/default")
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Grant").click()
    assert asked == ["Let model:delay@2 take traffic?"]
    assert [approval.state for approval in fresh.ws.approvals.list()] == ["requested"]
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Grant").click()
    page.wait_for_selector("text=Waiting for a person", state="detached")
    assert [(item.state, item.decided_by) for item in fresh.ws.approvals.list()] == [("granted", "user:local")]


def test_a_page_of_another_origin_can_neither_read_nor_change_anything(fresh: Site, browser: Browser) -> None:
    tab = browser.new_page()
    other = fresh.url.replace("127.0.0.1", "localhost")
    tab.route("http://evil.example/*", lambda route: route.fulfill(body="<p>evil</p>", content_type="text/html"))
    tab.goto("http://evil.example/")
    for base in (fresh.url, other):
        for options in (
            "{method: 'POST', body: '{}', headers: {'Content-Type': 'application/json', 'Loopwright-CSRF': '1'}}",
            "{method: 'POST', body: '{}', mode: 'no-cors'}",
            "{}",
        ):
            told = tab.evaluate(
                f"fetch('{base}/api/v1/runs/start', {options}).then(a => a.text()).catch(e => 'refused')"
            )
            assert told in ("refused", "")
    assert fresh.ws.runs.search() == []
    tab.close()


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(site: Site, browser: Browser) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    for path in ("", "/endpoints/delay", "/runs", "/events"):
        tab.goto(f"{site.url}/p/default{path}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, path
    tab.close()
