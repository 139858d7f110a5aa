"""The same promises of scoring jobs with the workspace on PostgreSQL: new rows, triggers, kill -9 of the carrier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.loop.test_scoring import (
    bundle,
    rows_of,
    test_only_new_rows_are_scored_and_drift_opens_an_alert,
    test_the_controller_runs_a_job_by_its_triggers_through_kill_9,
    test_timers_and_events_wait_as_one_run,
)

import loopwright as lw
from loopwright.models import Bundle
from loopwright.workspace import Workspace

__all__ = [
    "bundle",
    "test_only_new_rows_are_scored_and_drift_opens_an_alert",
    "test_the_controller_runs_a_job_by_its_triggers_through_kill_9",
    "test_timers_and_events_wait_as_one_run",
]
pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def ws(tmp_path: Path, bundle: Bundle, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace of those tests, and of the processes that they start, on PostgreSQL."""
    monkeypatch.setenv("LOOPWRIGHT_DB", postgres_url)
    with lw.connect(tmp_path) as opened:
        assert isinstance(opened, Workspace)
        assert opened.stores.db.dialect == "postgresql"
        opened.models.register("m", bundle)
        opened.datasets.ingest("rows", rows_of(0))
        yield opened
