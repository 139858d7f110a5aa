"""Runs in a real browser: completion, orders, columns, views, more rows, curves, sounds, comparison; hostile words."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.ui.conftest import Site
from tests.ui.crowd import Crowd

pytestmark = pytest.mark.browser

Crowded = tuple[Site, Crowd]
DRAWN = "html[data-drawn]"


def open_runs(page: Page, site: Site, query: str = "") -> None:
    page.goto(f"{site.url}/p/default/runs{query}")


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true. Playwright's own way evaluates a text in the page, which our policy forbids."""
    for _ in range(150):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"never true: {expression}")


def figure(page: Page, script: str) -> object:
    return page.evaluate(
        f"(() => {{ const plot = document.querySelector('[data-metric=\"train/loss\"] .plot'); {script} }})()"
    )


def test_a_filter_is_completed_by_keyboard_and_then_asked(crowd_site: Crowded, page: Page) -> None:
    open_runs(page, crowd_site[0], "?experiment=sweep")
    box = page.locator("[data-complete]")
    box.click()
    page.wait_for_selector(".offers li")
    box.press_sequentially("metrics.au")
    expect(page.locator(".offers li")).to_have_text(["metrics.auc"])
    box.press("ArrowDown")
    box.press("Enter")
    expect(page.locator(".offers li").first).to_have_text("=")
    box.press_sequentially("> 0.94 AND params.mod")
    box.press("ArrowDown")
    box.press("Tab")
    box.press_sequentially("= 'x")
    expect(page.locator(".offers li")).to_have_text(["'xgboost'"])
    box.press("ArrowDown")
    box.press("Enter")
    assert box.input_value() == "metrics.auc > 0.94 AND params.model = 'xgboost' "
    box.press("Escape")
    box.press("Enter")
    page.wait_for_url("**/runs?*auc*")
    assert "experiment=sweep" in page.url
    assert "column=" not in page.url
    assert page.locator("table.runs tbody tr").count() > 3
    assert set(page.locator("table.runs tbody tr td:last-child").all_inner_texts()) == {"xgboost"}


def test_a_click_on_a_head_orders_by_it(crowd_site: Crowded, page: Page) -> None:
    open_runs(page, crowd_site[0], "?experiment=sweep")
    page.locator("th a", has_text="auc").click()
    page.wait_for_url("**order=**")
    heads = page.locator("th[aria-sort]")
    assert (heads.count(), heads.get_attribute("aria-sort")) == (1, "descending")
    page.locator("th a", has_text="auc").click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_count(1)


def test_columns_are_chosen_and_stay_in_the_address(crowd_site: Crowded, page: Page) -> None:
    open_runs(page, crowd_site[0], "?experiment=sweep")
    page.get_by_text("Columns", exact=True).click()
    page.locator("[data-narrow]").fill("team")
    assert page.locator(".choice:visible").all_inner_texts() == ["team"]
    page.locator(".choice:visible input").check()
    page.get_by_role("button", name="Show these").click()
    page.wait_for_url("**column=tags.team**")
    heads = page.locator("table.runs thead th").all_inner_texts()
    assert {"team", "auc"} <= {text.strip() for text in heads}
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("link", name="The usual ones").click()
    page.wait_for_url(re.compile(r"runs\?experiment=sweep$"))


def test_rows_come_on_scrolling_and_only_then(crowd_site: Crowded, page: Page) -> None:
    open_runs(page, crowd_site[0], "?experiment=sweep")
    rows = page.locator("table.runs tbody tr")
    page.wait_for_timeout(600)
    assert rows.count() == 100
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    until(page, "document.querySelectorAll('table.runs tbody tr').length === 200")
    for _ in range(20):
        if rows.count() == 1500:
            break
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(300)
    assert rows.count() == 1500
    assert page.locator("[data-more]").count() == 0
    ids = page.locator("table.runs input[name=run]").evaluate_all("boxes => boxes.map(box => box.value)")
    assert len(set(ids)) == 1500


def test_chosen_runs_are_compared(crowd_site: Crowded, page: Page) -> None:
    open_runs(page, crowd_site[0], "?experiment=sweep")
    button = page.get_by_role("button", name="Compare")
    assert button.is_disabled()
    boxes = page.locator("table.runs tbody input[name=run]")
    boxes.nth(0).check()
    boxes.nth(4).click(modifiers=["Shift"])
    expect(page.locator("[data-shown]")).to_contain_text("5 chosen")
    button.click()
    page.wait_for_url("**/compare?**")
    page.wait_for_selector(DRAWN)
    assert page.inner_text("h1") == "5 runs compared"
    assert page.locator(".parallel polyline").count() == 5
    assert page.locator("[data-figure=scatter].js-plotly-plot").count() == 1


def test_a_range_of_an_axis_keeps_the_runs_in_it(crowd_site: Crowded, page: Page) -> None:
    site, crowd = crowd_site
    page.goto(f"{site.url}/p/default/compare?" + "&".join(f"run={id}" for id in crowd.sweep[:12]))
    page.locator(".parallel .grip").nth(3).scroll_into_view_if_needed()
    box = page.locator(".parallel .grip").nth(3).bounding_box()
    assert box is not None
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    kept = 12 - page.locator(".parallel .line.out").count()
    assert 0 < kept < 12
    expect(page.locator("[data-tell]")).to_have_text(f"{kept} of 12 runs kept")
    page.locator(".parallel .grip").nth(3).click()
    expect(page.locator(".parallel .line.out")).to_have_count(0)


def test_a_view_is_saved_for_everybody_and_forgotten_again(fresh: Site, page: Page) -> None:
    fresh.ws.runs.start("sweep", name="one")
    open_runs(page, fresh, "?experiment=sweep&filter=status+%3D+%27running%27")
    page.get_by_text("Views", exact=True).click()
    page.locator("[data-view-name]").fill("the running ones")
    page.locator("[data-save-view]").click()
    expect(page.locator("summary .count")).to_have_text("1")
    [tag] = [key for key in fresh.ws.experiments.get("sweep").tags if key.startswith("loopwright.view.")]
    assert tag == "loopwright.view.the running ones"
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("summary", has_text="Views").click()
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("summary .count")).to_have_count(0)
    assert fresh.ws.experiments.get("sweep").tags == {}


def test_without_an_experiment_a_view_is_kept_in_the_browser(fresh: Site, page: Page) -> None:
    fresh.ws.runs.start("sweep", name="one")
    open_runs(page, fresh, "?order=started_at+ASC")
    page.get_by_text("Views", exact=True).click()
    page.locator("[data-view-name]").fill("<b>oldest</b>")
    page.locator("[data-view-name]").press("Enter")
    page.goto(f"{fresh.url}/p/default/runs")
    page.get_by_text("Views", exact=True).click()
    page.get_by_role("link", name="<b>oldest</b>").click()
    page.wait_for_url("**order=started_at+ASC**")
    assert page.url.split("?")[1] == "order=started_at+ASC"
    assert fresh.ws.experiments.get("sweep").tags == {}


def test_what_is_typed_and_chosen_stays_when_a_run_begins(fresh: Site, page: Page) -> None:
    fresh.ws.runs.start("first", name="one")
    open_runs(page, fresh)
    page.wait_for_selector("[data-pulse]:not(.lost):not([hidden])")
    page.locator("table.runs tbody input[name=run]").first.check()
    page.locator("[data-complete]").fill("params.x = ")
    fresh.ws.runs.start("first", name="two")
    page.wait_for_selector("text=two", timeout=8000)
    assert page.locator("[data-complete]").input_value() == "params.x = "
    assert page.evaluate("document.activeElement.name") == "filter"
    assert page.locator("table.runs input[name=run]:checked").count() == 1


def test_curves_are_smoothed_and_put_on_other_axes(crowd_site: Crowded, page: Page) -> None:
    site, crowd = crowd_site
    page.goto(f"{site.url}/p/default/runs/{crowd.long}")
    page.wait_for_selector(DRAWN)
    assert figure(page, "return Math.max(...plot.data[1].y)") == pytest.approx(3.95)
    rough = figure(page, "const y = plot.data[2].y; return y.slice(1).reduce((s, v, i) => s + Math.abs(v - y[i]), 0)")
    page.locator("[data-chart=smooth]").fill("0.9")
    page.wait_for_url("**smooth=0.9**")
    until(page, "document.querySelector('[data-metric=\"train/loss\"] .plot').data.length === 4")
    smooth = figure(page, "const y = plot.data[3].y; return y.slice(1).reduce((s, v, i) => s + Math.abs(v - y[i]), 0)")
    assert isinstance(smooth, float)
    assert isinstance(rough, float)
    assert smooth < rough / 4
    page.locator("[data-chart=logy]").check()
    page.locator("[data-chart=x]").select_option("relative")
    page.wait_for_url("**x=relative**")
    until(page, "document.querySelector('[data-metric=\"train/loss\"] .plot').layout.yaxis.type === 'log'")
    assert figure(page, "return plot.layout.xaxis.title.text") == "seconds since the start"
    page.reload()
    page.wait_for_selector(DRAWN)
    assert figure(page, "return [plot.layout.yaxis.type, plot.data.length]") == ["log", 4]
    page.locator("[data-chart=find]").fill("ACC")
    expect(page.locator(".chart:visible")).to_have_count(1)


def test_zooming_fetches_each_point_of_the_range(crowd_site: Crowded, page: Page) -> None:
    site, crowd = crowd_site
    page.goto(f"{site.url}/p/default/runs/{crowd.long}")
    page.wait_for_selector(DRAWN)
    figure(page, "Plotly.relayout(plot, {'xaxis.range[0]': 123400, 'xaxis.range[1]': 123500})")
    closer = "document.querySelector('[data-metric=\"train/loss\"] .plot').data[0].x.includes(123456)"
    until(page, closer)
    assert figure(page, "return plot.data[0].y[plot.data[0].x.indexOf(123456)]") == pytest.approx(3.95)
    assert figure(page, "return plot.layout.xaxis.range") == [123400, 123500]
    figure(page, "Plotly.relayout(plot, {'xaxis.autorange': true})")
    until(page, "document.querySelector('[data-metric=\"train/loss\"] .plot').data.at(-1).x.at(-1) > 199000")


def test_a_running_run_grows_on_its_page_without_losing_its_controls(fresh: Site, page: Page) -> None:
    run = fresh.ws.runs.start("first", name="live")
    for step in range(3):
        fresh.ws.runs.log_metrics(run.id, {"loss": 1.0 / (1 + step)}, step=step)
    page.goto(f"{fresh.url}/p/default/runs/{run.id}")
    page.wait_for_selector(DRAWN)
    page.locator("[data-chart=logy]").check()
    fresh.ws.runs.log_metrics(run.id, {"loss": 0.01}, step=3)
    grown = "document.querySelector('[data-metric=loss] .plot')?.data?.[0].y.length === 4"
    until(page, grown)
    assert page.evaluate("document.querySelector('[data-metric=loss] .plot').layout.yaxis.type") == "log"
    fresh.ws.runs.finish(run.id, "failed", error="ValueError: too bad")
    page.wait_for_selector("text=ValueError: too bad", timeout=15000)


def test_a_sound_is_drawn_and_played(crowd_site: Crowded, page: Page) -> None:
    site, crowd = crowd_site
    page.goto(f"{site.url}/p/default/runs/{crowd.long}/files?path=audio/tone.wav")
    expect(page.locator("[data-length]")).to_contain_text("1.00 s")
    painted = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 900, 120).data.some((v) => v > 0)"
    assert page.evaluate(painted)
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()


def test_a_picture_is_shown_and_a_drawing_with_a_script_does_nothing(crowd_site: Crowded, page: Page) -> None:
    site, crowd = crowd_site
    for name in ("confusion.png", "vector.svg"):
        page.goto(f"{site.url}/p/default/runs/{crowd.long}/files?path=images/{name}")
        until(page, "document.querySelector('.picture img').naturalWidth > 0")
        assert page.evaluate("window.pwned") is None


def test_nothing_hostile_runs_on_any_page_of_runs(crowd_site: Crowded, page: Page) -> None:
    site, crowd = crowd_site
    base = f"{site.url}/p/default"
    tails = ("", "/files", "/code", "/system", "/files?path=error/traceback.txt")
    paths = [
        "/runs",
        "/experiments",
        f"/compare?run={crowd.hostile}&run={crowd.long}&run={crowd.baseline}&everything=1",
    ]
    paths += [f"/runs/{crowd.hostile}{tail}" for tail in tails]
    paths += [f"/runs/{crowd.long}/files?path={path}" for path in ("notes/readme.md", "tables/eval.csv", "page.html")]
    for path in paths:
        page.goto(base + path)
        if page.locator("[data-figure]").count():
            page.wait_for_selector(DRAWN)
        assert page.evaluate("window.pwned") is None, path
    page.goto(f"{base}/runs")
    page.locator("[data-complete]").click()
    page.locator("[data-complete]").press_sequentially("params.")
    page.wait_for_selector(".offers li")
    assert page.evaluate("window.pwned") is None


def test_runs_are_read_and_paged_without_javascript(crowd_site: Crowded, browser: Browser) -> None:
    site, crowd = crowd_site
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{site.url}/p/default/runs?experiment=sweep")
    first = plain.locator("table.runs tbody tr td.name").first.inner_text()
    plain.get_by_role("link", name="More").click()
    assert plain.locator("table.runs tbody tr").count() == 100
    assert plain.locator("table.runs tbody tr td.name").first.inner_text() != first
    plain.goto(f"{site.url}/p/default/runs/{crowd.long}")
    assert "0.3" in plain.locator("tr:has(td.name)", has_text="train/loss").inner_text()
    assert plain.locator(".trend").count() == 3
    assert plain.locator(".plot:visible, .only-script:visible").count() == 0
    plain.locator("summary", has_text="Numbers").first.click()
    assert plain.locator("details[open] td").count() > 100


@pytest.mark.parametrize("width", [390, 1400])
def test_no_page_of_runs_is_wider_than_the_screen(crowd_site: Crowded, browser: Browser, width: int) -> None:
    site, crowd = crowd_site
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tails = (
        f"/{crowd.hostile}",
        f"/{crowd.long}",
        f"/{crowd.long}/files?path=tables/eval.csv",
        f"/{crowd.long}/system",
        "",
    )
    compare = "/p/default/compare?" + "&".join(f"run={id}" for id in crowd.sweep[:9])
    for path in [*(f"/p/default/runs{tail}" for tail in tails), compare, "/p/default/experiments"]:
        tab.goto(site.url + path)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
    tab.close()
