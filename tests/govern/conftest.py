from datetime import UTC, datetime

import pytest

from loopwright.core import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
