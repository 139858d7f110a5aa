from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loopwright.core import Location, ManualClock, Settings
from loopwright.store import Stores, open_stores


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    location = Location(tmp_path, tmp_path / ".loopwright", Settings())
    opened = open_stores(location, ["loopwright.store.migrations", "loopwright.govern.migrations"])
    yield opened
    opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
