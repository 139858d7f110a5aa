"""When a window counts as complete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.monitor.conftest import DAY, START, World

from loopwright.core import is_id, new_id, time_of
from loopwright.models import Bundle
from loopwright.monitor import Monitor, watermarks
from loopwright.monitor.advancing import id_at
from loopwright.monitor.watermarks import watermark
from loopwright.store import Stores

NOW = datetime(2026, 11, 1, tzinfo=UTC)
JUST, LONG = NOW - timedelta(seconds=3), NOW - timedelta(minutes=5)


@pytest.mark.parametrize(
    ("latest", "folded_at", "expected"),
    [
        (None, None, NOW),
        (NOW - timedelta(minutes=1), JUST, NOW),
        (NOW - timedelta(hours=30), JUST, NOW - timedelta(hours=30)),
        (NOW - timedelta(hours=30), LONG, NOW),
        (datetime(2013, 1, 1, tzinfo=UTC), JUST, datetime(2013, 1, 1, tzinfo=UTC)),
        (datetime(2013, 1, 1, tzinfo=UTC), LONG, NOW),
    ],
)
def test_live_traffic_goes_by_the_clock_and_rows_of_the_past_by_themselves(
    latest: datetime | None, folded_at: datetime | None, expected: datetime
) -> None:
    assert watermark(NOW, NOW, latest, folded_at, timedelta(hours=1)) == expected


def test_windows_of_the_past_are_judged_whole_on_the_machines_clock(
    make_sqlite_stores: Callable[..., Stores], tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(make_sqlite_stores(tmp_path), bundle)
    world.monitors.apply(Monitor(name="past", endpoint="delay", performance=None))
    before = START - 900 * DAY
    for day in range(3):
        for _ in range(4):
            world.predict(before + day * DAY, 100)
            world.monitors.advance()

    judged = world.monitors.windows("delay")
    monkeypatch.setattr(watermarks, "GRACE", timedelta(0))
    world.monitors.advance()

    assert [(report.start, report.rows, report.late_rows) for report in judged] == [
        (before + DAY, 400, 0),
        (before, 400, 0),
    ]
    assert [report.rows for report in world.monitors.windows("delay")] == [400, 400, 400]


def test_the_least_id_of_a_time_sorts_before_all_that_are_minted_from_then_on() -> None:
    fresh = new_id()

    assert is_id(id_at(time_of(fresh)))
    assert id_at(time_of(fresh)) <= fresh < id_at(time_of(fresh) + timedelta(milliseconds=1))
