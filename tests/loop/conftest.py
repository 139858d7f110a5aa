"""Fixtures of this room's tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.loop.world import LoopWorld

from loopwright.core import Location
from loopwright.loop import Controller, WorkspaceClock
from loopwright.store import Stores, open_stores

START = datetime(2013, 6, 1, tzinfo=UTC)
PROJECT = Path(__file__).parent / "project.py"


@pytest.fixture
def world(stores: Stores, migrations: tuple[str, ...]) -> Iterator[LoopWorld]:
    """Services on fresh stores with a simulated clock that stands at June 2013, on both databases."""
    yield from _simulated(stores.location, migrations)


@pytest.fixture
def small_world(
    make_sqlite_stores: Callable[..., Stores], migrations: tuple[str, ...], tmp_path: Path
) -> Iterator[LoopWorld]:
    """The same on SQLite only, in a folder with a project that can be trained."""
    shutil.copyfile(PROJECT, tmp_path / "training.py")
    (tmp_path / "loopwright.toml").write_text('clock = "simulated"\n', encoding="utf-8")
    yield from _simulated(make_sqlite_stores(tmp_path).location, migrations)


@pytest.fixture
def controller(small_world: LoopWorld) -> Iterator[Controller]:
    """A controller that runs."""
    running = Controller(small_world)
    running.start()
    yield running
    running.stop()


def _simulated(location: Location, migrations: tuple[str, ...]) -> Iterator[LoopWorld]:
    opened = open_stores(location, migrations, clock_of=WorkspaceClock)
    WorkspaceClock(opened.db).advance(START)
    yield LoopWorld(opened)
    opened.close()
