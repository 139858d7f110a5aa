"""Workspaces to record trainings into, with autolog switched on for one test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.recording.conftest import program, root, ws  # noqa: F401 - fixtures

import loopwright as lw
from loopwright.recording.spooling import spool_for
from loopwright.track import Run
from loopwright.track.autolog.guarding import forget_reports
from loopwright.workspace import Workspace


class Reports(logging.Handler):
    """What autolog has complained of; a test that expects complaints takes them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def take(self) -> list[logging.LogRecord]:
        found, self.records = self.records, []
        return found


@pytest.fixture
def reports() -> Iterator[Reports]:
    """The complaints of one test; there must be none that it has not taken."""
    forget_reports()
    log, handler = logging.getLogger("loopwright.autolog"), Reports()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(before)
    assert [record.getMessage() for record in handler.records] == []


@pytest.fixture
def autolog(root: Path, reports: Reports) -> Iterator[Callable[..., None]]:  # noqa: F811
    """`lw.autolog`, switched off again afterwards."""
    yield lw.autolog
    lw.autolog(disable=True)


@pytest.fixture
def runs(ws: Workspace) -> Callable[[], list[Run]]:  # noqa: F811
    """All runs that there are, in the order of their beginning, when all is delivered."""

    def find() -> list[Run]:
        assert spool_for()[0].flush()
        return sorted(ws.runs.search(limit=1000), key=lambda run: (run.started_at, run.id))

    return find
