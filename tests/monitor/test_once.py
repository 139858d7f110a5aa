"""Each prediction and label is counted once: whoever reads, and whenever it is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select
from tests.monitor.conftest import DAY, START, World

from loopwright.core import ManualClock
from loopwright.monitor import Monitor, compaction
from loopwright.monitor.tables import monitor_windows, prediction_slots, predictions
from loopwright.store import JournalReader, Stores

CHILD = """
import sys
from datetime import datetime
from pathlib import Path
from loopwright.core import Location, ManualClock, Scope, Settings
from loopwright.models import ModelService
from loopwright.monitor import MonitorService, advancing
from loopwright.store import open_stores
from tests.conftest import room_migrations

advancing._PREDICTIONS_AT_ONCE = 300
advancing._FEEDBACK_AT_ONCE = 1
root, now = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
stores = open_stores(Location(root, root / ".loopwright", Settings()), room_migrations(), clock=ManualClock(now))
service = MonitorService(stores, Scope(), models=ModelService(stores, Scope()))
print("ready", flush=True)
while True:
    service.advance()
    service.compact()
"""


def totals(stores: Stores) -> dict[str, float]:
    slots = prediction_slots
    with stores.db.read() as connection:
        sums = connection.execute(
            select(func.sum(slots.c.rows), func.sum(slots.c.labels), func.sum(slots.c.loss), func.sum(slots.c.errors))
        ).one()
        kept = connection.execute(select(func.count()).select_from(predictions)).scalar_one()
        windows = connection.execute(select(monitor_windows.c.report)).scalars().all()
    return {
        "rows": sums[0],
        "labels": sums[1],
        "loss": round(sums[2], 6),
        "errors": sums[3],
        "kept": kept,
        "window_rows": sum(report["rows"] + report["late_rows"] for report in windows if report),
    }


def table_ids(stores: Stores, key: str, column: str) -> list[str]:
    return sorted(stores.tables.read(key)[column].to_list())


@pytest.mark.fault
@pytest.mark.slow
def test_a_pass_that_is_killed_at_random_moments_counts_everything_once(
    world: World, clock: ManualClock, tmp_path: Path
) -> None:
    world.monitors.apply(Monitor(name="watch", endpoint="delay"))
    ids: list[str] = []
    for day in range(6):
        chances = np.full(2_000, 0.3)
        some = world.predict(START + day * DAY, 2_000, chances=chances, failed=10)
        world.label(some, [1] * 1_000 + [0] * 1_000)
        ids += some
    end = START + 20 * DAY
    kills = random.Random(7)  # the moments differ from run to run all the same: the machine's speed does
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), end.isoformat()],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(kills.uniform(0.0, 0.5))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()

    clock.advance(end)
    world.monitors.advance()
    world.monitors.compact()

    labelled = 6 * (990 * 0.49 + 1_000 * 0.09)
    assert totals(world.stores) == {
        "rows": 12_000,
        "labels": 11_940,
        "loss": pytest.approx(labelled),
        "errors": 60,
        "kept": 12_000,
        "window_rows": 12_000,
    }
    assert table_ids(world.stores, "predictions/default/delay", "id") == sorted(ids)
    assert table_ids(world.stores, "feedback/default/delay", "prediction_id") == sorted(ids)
    opened = [event.evidence["about"] for event in world.stores.events.read() if event.kind == "alert.opened"]
    assert len(opened) == len(set(opened))


@pytest.mark.parametrize("step", ["plan", "append", "move", "drop"])
def test_a_compaction_that_stops_after_any_of_its_parts_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ids = world.predict(START, 300)
    more = world.predict(START, 200, endpoint="other")
    world.label(ids, [1] * 300)
    world.monitors.advance()
    with monkeypatch.context() as patch:
        _stop_after(patch, world.stores, step)
        with pytest.raises(KeyboardInterrupt):
            world.monitors.compact()
    late = world.predict(START, 40)
    world.monitors.advance()

    world.monitors.compact()
    world.monitors.compact()

    assert table_ids(world.stores, "predictions/default/delay", "id") == sorted([*ids, *late])
    assert table_ids(world.stores, "predictions/default/other", "id") == sorted(more)
    assert table_ids(world.stores, "feedback/default/delay", "prediction_id") == sorted(ids)


def _stop_after(patch: pytest.MonkeyPatch, stores: Stores, step: str) -> None:
    """Let one part of a compaction happen, then die as an interrupt does."""

    def dying(real: object) -> object:
        def once(*args: object, **kwargs: object) -> object:
            real(*args, **kwargs)  # type: ignore[operator]  # a function
            raise KeyboardInterrupt

        return once

    if step == "append":
        patch.setattr(stores.tables, "append", dying(stores.tables.append))
    elif step == "drop":
        patch.setattr(JournalReader, "drop_read", dying(JournalReader.drop_read))
    else:
        patch.setattr(
            compaction,
            {"plan": "_plan", "move": "move"}[step],
            dying(getattr(compaction, step.replace("plan", "_plan"))),
        )


def test_two_readers_at_once_count_each_row_once(world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for _ in range(5):
        world.label(world.predict(START, 400, chances=np.full(400, 0.3)), [1] * 400)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: world.monitors.advance(), range(4)))

    found = totals(world.stores)
    assert (found["rows"], found["labels"], found["kept"]) == (2_000, 2_000, 2_000)


def test_what_is_in_the_tables_leaves_the_journals(world: World) -> None:
    world.predict(START, 500)
    world.log.close()
    world.monitors.advance()
    assert len(JournalReader(world.stores.data / "journal" / "predictions").segments()) == 1

    world.monitors.compact()

    assert JournalReader(world.stores.data / "journal" / "predictions").segments() == []


def test_rows_wait_for_company_before_they_go_into_the_tables(world: World) -> None:
    world.predict(START, 50)
    world.monitors.advance()
    world.monitors.advance()

    assert not world.stores.tables.exists("predictions/default/delay")


@pytest.mark.slow
def test_a_pass_over_a_thousand_predictions_and_labels_costs_tens_of_milliseconds(
    world: World, clock: ManualClock
) -> None:
    world.monitors.apply(Monitor(name="watch", endpoint="delay"))
    seconds, ids = [], []
    for day in range(6):
        chances = world.random.random(1_000)
        if ids:
            world.label(ids, [0, 1] * 500)
        ids = world.predict(START + day * DAY, 1_000, chances=chances)
        clock.advance(START + (day + 1) * DAY)
        started = time.process_time()
        world.monitors.advance()
        seconds.append(time.process_time() - started)

    assert min(seconds[1:]) < 0.15
