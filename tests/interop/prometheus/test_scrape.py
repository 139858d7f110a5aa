"""Prometheus, unmodified, scrapes `loopwright serve` and `loopwright up`, and answers questions about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.serve.conftest import adding_bundle
from tests.servers import free_port

from loopwright.workspace import open_workspace

BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: serve
    static_configs: [{{targets: ["{serve}"]}}]
  - job_name: up
    static_configs: [{{targets: ["{up}"]}}]
"""


@contextmanager
def program(*command: str | Path, log: Path) -> Iterator[str]:
    """A program of ours, and the address in its ready line."""
    with log.open("wb") as out:
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=out)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of `loopwright serve`, with two workers, and of `loopwright up`; both answer `delay`."""
    root = tmp_path_factory.mktemp("workspace")
    with open_workspace(root) as ws:
        version = ws.models.register("delay", adding_bundle(1.0, root / "bundle"))
        ws.endpoints.create("delay", version.ref)
    ours = [sys.executable, "-m", "loopwright"]
    where = ["--workspace", root, "--port", "0", "--json"]
    with (
        program(*ours, "serve", "model:delay@1", "--workers", "2", *where, log=root / "serve.log") as serve,
        program(*ours, "up", *where, log=root / "up.log") as up,
    ):
        wait_for(lambda: httpx.post(f"{up}/v2/models/delay/infer", json=BODY).status_code == 200)
        yield {"serve": serve, "up": up}


@pytest.fixture(scope="module")
def prometheus(served: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that scrapes both five times a second."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(**{name: url.removeprefix("http://") for name, url in served.items()}))
    subprocess.run(["promtool", "check", "config", str(config)], check=True)
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--query.lookback-delta=5s"]
    with (folder / "log.txt").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={"PATH": os.environ["PATH"]})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: get(f"{url}/-/ready") == 200)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def get(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0


def ask(prometheus: str, question: str) -> dict[str, float]:
    """The values that Prometheus finds, by job."""
    told = httpx.get(f"{prometheus}/api/v1/query", params={"query": question}).raise_for_status().json()
    return {item["metric"].get("job", ""): float(item["value"][1]) for item in told["data"]["result"]}


def requests_total(url: str) -> float:
    """The answered requests of the endpoint, as the process itself tells them."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return sum(
        sample.value for family in families for sample in family.samples if sample.name == "loopwright_requests_total"
    )


def test_its_own_check_finds_nothing_in_what_is_told(served: dict[str, str]) -> None:
    for url in served.values():
        httpx.post(f"{url}/v2/models/delay/infer", json=BODY).raise_for_status()
        httpx.post(f"{url}/v2/models/none/infer", json=BODY)
        answer = httpx.get(f"{url}/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=answer.text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_it_scrapes_both(prometheus: str) -> None:
    wait_for(lambda: ask(prometheus, "up") == {"serve": 1.0, "up": 1.0})
    targets = httpx.get(f"{prometheus}/api/v1/targets").json()["data"]["activeTargets"]
    assert {(item["labels"]["job"], item["lastError"]) for item in targets} == {("serve", ""), ("up", "")}


def test_it_answers_the_rate_and_the_latency_of_requests(prometheus: str, served: dict[str, str]) -> None:
    wait_for(lambda: set(ask(prometheus, "loopwright_requests_total")) == {"serve", "up"})
    before = {name: requests_total(url) for name, url in served.items()}
    end, sent = time.monotonic() + 6, 0
    with httpx.Client() as client:
        while time.monotonic() < end:
            for url in served.values():
                client.post(f"{url}/v2/models/delay/infer", json=BODY).raise_for_status()
            sent += 1
            time.sleep(0.02)
    assert {name: requests_total(url) - count for name, count in before.items() for url in [served[name]]} == {
        "serve": sent,
        "up": sent,
    }
    rates = ask(prometheus, 'sum by (job) (rate(loopwright_requests_total{endpoint="delay"}[5s]))')
    wanted = sent / 6
    assert {name: pytest.approx(wanted, rel=0.35) for name in served} == rates
    question = "histogram_quantile(0.99, sum by (job, le) (rate({}_bucket[5s])))"
    found = ask(prometheus, question.format("loopwright_request_seconds"))
    assert set(found) == set(served)
    assert all(0 < seconds < 1 for seconds in found.values())
