"""The page: predicts in a real browser what the bundle answers, and asks nobody but the folder it lies in.

The npm package onnxruntime-web is taken from $LOOPWRIGHT_ONNXRUNTIME_WEB (unpacked), or else from npm, into build/.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.models.conftest import Trips
from tests.serve.edge.conftest import Network
from tests.servers import needs_program
from tests.shape.source import ROOT

from loopwright.core import Invalid, NotFound
from loopwright.models import Bundle
from loopwright.serve import EdgePlan, Precision, export_edge
from loopwright.serve.edge.web import PAGE_FILES, find_package

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

VERSION = "1.30.0"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
PAGE = ROOT / "src" / "loopwright" / "serve" / "edge" / "page"


@pytest.fixture(scope="session")
def package() -> Path:
    """The unpacked npm package."""
    given = os.environ.get("LOOPWRIGHT_ONNXRUNTIME_WEB")
    if given:
        return Path(given)
    place = ROOT / "build" / f"onnxruntime-web-{VERSION}"
    if not place.is_dir():
        fetch(place)
    return place


def fetch(place: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, and $LOOPWRIGHT_ONNXRUNTIME_WEB names no unpacked onnxruntime-web")
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as work:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}"]
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=180)
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not bring onnxruntime-web within 180 s")
        if done.returncode:
            pytest.skip(f"npm cannot bring onnxruntime-web: {done.stderr.strip()[-200:]}")
        with tarfile.open(next(Path(work).glob("*.tgz"))) as archive:
            archive.extractall(work, filter="data")
        try:
            (Path(work) / "package").rename(place)
        except OSError:  # another worker was first
            assert place.is_dir()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = needs_program("chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


class Files(http.server.SimpleHTTPRequestHandler):
    """Hands out a folder."""

    extensions_map = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves folders on loopback; gives their address."""
    servers = []

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Tab:
    """A tab on an exported page, with the addresses that it asked for."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url, self.asked, self.troubles = page, url, list[str](), list[str]()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda message: self.troubles.append(message.text) if message.type == "error" else None)
        page.goto(url)
        page.wait_for_selector("#form:not([hidden]), #error:not(:empty)", timeout=60_000)

    def answer(self, values: dict[str, Any]) -> dict[str, str]:
        """Fill the form in, and what the page answers; as `error` what it complains of."""
        for name, value in values.items():
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            field = self.page.locator(f"[name={name}]")
            if field.evaluate("field => field.tagName") == "SELECT":
                field.select_option(text)
            else:
                field.fill(text)
        self.page.evaluate("document.getElementById('answer').replaceChildren()")
        self.page.click("button")
        self.page.wait_for_selector("#answer dd, #error:not(:empty)")
        found = self.page.evaluate(
            "Object.fromEntries("
            "Array.from(document.querySelectorAll('dd'), (dd) => [dd.dataset.output, dd.textContent]))"
        )
        return {**found, "error": self.page.inner_text("#error")}


def exported(bundle: Bundle, target: Path, package: Path, precision: Precision = Precision.NONE) -> Path:
    plan = EdgePlan(precision=precision, web=package)
    report = export_edge(bundle, target, plan, ref="model:m@1", digest="ab" * 32)
    assert report.passed
    assert report.web
    return target


@pytest.mark.browser
def test_the_page_answers_what_the_bundle_answers(
    bundle: Bundle, trips: Trips, package: Path, tmp_path: Path, browser: Browser, serve: Callable[[Path], str]
) -> None:
    tab = Tab(browser.new_page(), serve(exported(bundle, tmp_path / "out", package)))
    assert tab.page.inner_text("#state") == "Ready."
    rows = [*trips.rows.filter(trips.rows["wind"].is_null()).head(2).to_dicts(), *trips.rows.head(3).to_dicts()]
    for row in [*rows, {**rows[0], "carrier": "never seen"}]:
        found = tab.answer(row)
        own = bundle.predictor().predict_rows([list(row.values())])
        assert found["error"] == ""
        assert found["label"] == str(own["label"][0])
        assert float(found["probability"]) == pytest.approx(float(own["probability"][0]), abs=1e-6)
    assert {url.startswith(tab.url) for url in tab.asked} == {True}
    assert tab.troubles == []
    tab.page.close()


@pytest.mark.browser
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_a_smaller_network_answers_in_the_browser_as_it_does_outside(
    network: Network,
    precision: Precision,
    package: Path,
    tmp_path: Path,
    browser: Browser,
    serve: Callable[[Path], str],
) -> None:
    from loopwright.serve.edge.standalone import EdgeModel

    folder = exported(network.bundle, tmp_path / "out", package, precision)
    tab = Tab(browser.new_page(), serve(folder))
    for row in network.rows.head(5).to_dicts():
        found, outside = tab.answer(row), EdgeModel(folder).predict([row])
        assert found["error"] == ""
        assert float(found["probability"]) == pytest.approx(float(outside["probability"][0]), abs=0.01)
    tab.page.close()


@pytest.mark.browser
def test_the_page_names_the_field_that_does_not_fit_and_refuses_a_changed_model(
    bundle: Bundle, trips: Trips, package: Path, tmp_path: Path, browser: Browser, serve: Callable[[Path], str]
) -> None:
    folder = exported(bundle, tmp_path / "out", package)
    tab, row = Tab(browser.new_page(), serve(folder)), trips.rows.row(0, named=True)
    for change, message in (
        ({"hour": "noon"}, 'hour: takes a whole number, not "noon"'),
        ({"hour": str(2**63)}, "hour: 9223372036854775808 does not fit 64 bits"),
        ({"distance": ""}, "distance: is missing"),
        ({"distance": "1e400"}, "distance: takes a number"),
        ({"distance": "1e39"}, "distance: is too large for float32"),
    ):
        found = tab.answer({**row, **change})
        assert message in found["error"]
        assert "label" not in found
    assert tab.answer(row)["error"] == ""
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    tab.page.close()
    changed = Tab(browser.new_page(), tab.url)
    assert "model.onnx is not what was exported" in changed.page.inner_text("#error")
    assert changed.page.locator("#form").is_hidden()
    changed.page.close()


@pytest.mark.browser
def test_names_from_a_model_are_text_on_the_page(
    bundle: Bundle, package: Path, tmp_path: Path, browser: Browser, serve: Callable[[Path], str]
) -> None:
    folder = exported(bundle, tmp_path / "out", package)
    about = json.loads((folder / "bundle.json").read_bytes())
    about["model"] = "<img src=x onerror=document.title=1>"
    about["inputs"][3]["categories"] = ['"><script>document.title=2</script>']
    (folder / "bundle.json").write_text(json.dumps(about))
    tab = Tab(browser.new_page(), serve(folder))
    assert tab.page.inner_text("h1") == about["model"]
    assert tab.page.title() == about["model"]
    assert tab.page.locator("img, #inputs script").count() == 0
    tab.page.close()


def test_the_files_of_the_page_name_no_address() -> None:
    for name in PAGE_FILES:
        assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", (PAGE / name).read_text()) == []
    assert sorted(path.name for path in PAGE.iterdir()) == sorted(PAGE_FILES)


def test_the_package_is_found_where_npm_puts_it_and_an_unfit_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="npm pack onnxruntime-web"):
        find_package(tmp_path)
    place = tmp_path / "node_modules" / "onnxruntime-web"
    (place / "dist").mkdir(parents=True)
    (place / "package.json").write_text('{"name": "onnxruntime-web", "version": "1.2.3"}')
    with pytest.raises(Invalid, match=r"1\.2\.3 lacks dist/ort\.wasm\.min\.mjs"):
        find_package(tmp_path)
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (place / "dist" / name).write_bytes(b"")
    assert find_package(tmp_path) == find_package(place) == (place / "dist", "1.2.3")
    (place / "package.json").write_text('{"name": "another", "version": "1"}')
    with pytest.raises(NotFound):
        find_package(place)
