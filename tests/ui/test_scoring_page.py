"""The page of a scoring job that has run: its runs, and what its monitor saw."""

from __future__ import annotations

import httpx
import pytest
from tests.loop.test_scoring import bundle, carried, job_of, rows_of, ws
from tests.ui import story

from loopwright.workspace import Workspace

__all__ = ["bundle", "ws"]


@pytest.mark.slow
def test_the_page_of_a_job_shows_its_runs_windows_and_alerts(ws: Workspace) -> None:
    job = job_of(new_rows=True)
    carried(ws, job)
    ws.datasets.ingest("rows", rows_of(5_000, shift=3.0), mode="append")
    run = carried(ws, job)
    ws.monitors.advance()
    [alert] = ws.monitors.alerts()
    with story.serving(ws) as url, httpx.Client(base_url=url, trust_env=False) as client:
        jobs = client.get("/p/default/scoring").raise_for_status().text
        page = client.get("/p/default/scoring/nightly").raise_for_status().text
        monitor = client.get("/p/default/monitors/scoring.nightly").raise_for_status().text
    assert 'href="/p/default/scoring/nightly"' in jobs
    for shown in (f"/p/default/runs/{run.id}", f"/p/default/alerts/{alert.id}", "dataset:answers@2", "answer:value"):
        assert shown in page
    assert 'href="/p/default/scoring/nightly"' in monitor
    assert "/endpoints/scoring" not in monitor + page
