"""Kill -9 of real writers: no event that was acknowledged is lost, none is half there, and the chain is whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from loopwright.core import Location, Scope, Settings
from loopwright.store import Sealer, Stores, open_stores
from loopwright.store.db.schema import state
from loopwright.store.events.tables import events

WRITER = r"""
import sys
from pathlib import Path
from loopwright.core import Location, Scope, Settings
from loopwright.store import Sealer, open_stores
from loopwright.store.db.schema import state
root, url, *packages = sys.argv[1:]
stores = open_stores(Location(Path(root), Path(root) / ".loopwright", Settings(db=url)), packages)
sealer = Sealer(stores.events, interval_s=0.005)
sealer.start()
number = 0
while True:
    with stores.db.begin() as tx:
        event = stores.events.append(tx, "run.started", f"run:{number}", Scope(), {"filler": "x" * (number % 2000)})
        tx.execute(state.insert().values(key=event.id, value="the change that it tells of"))
    sys.stdout.write(event.id + "\n")
    sys.stdout.flush()
    number += 1
"""


def start_writer(stores: Stores, packages: tuple[str, ...]) -> subprocess.Popen[str]:
    location = stores.location
    arguments = [str(location.root), location.settings.db, *packages]
    return subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True)


def kill_and_collect(process: subprocess.Popen[str], after_s: float) -> list[str]:
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    lines = [first, *process.stdout.readlines()]
    process.wait()
    return [line.strip() for line in lines if line.endswith("\n")]


@pytest.mark.fault
def test_killed_writers_lose_no_acknowledged_event(stores: Stores, migrations: tuple[str, ...]) -> None:
    acknowledged: set[str] = set()
    moments = random.Random(7)
    for _ in range(4):
        writers = [start_writer(stores, migrations) for _ in range(2)]
        for writer in writers:
            acknowledged.update(kill_and_collect(writer, moments.uniform(0.0, 0.3)))
    report = stores.events.verify()
    assert (report.ok, report.problem) == (True, "")
    with stores.db.read() as connection:
        kept = set(connection.execute(select(events.c.id)).scalars())
        changes = set(connection.execute(select(state.c.key).where(state.c.key != "schema")).scalars())
        sealed = connection.execute(select(func.count(events.c.position))).scalar_one()
    assert acknowledged
    assert acknowledged <= kept
    assert kept == changes, "an event is there exactly when its change is"
    assert sealed == report.events == len(kept)
    assert stores.db.check() == []


def wait_for_position(stores: Stores, id: str) -> int | None:
    deadline = time.monotonic() + 60
    while (position := stores.events.get(id).position) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return position


def append(stores: Stores) -> str:
    with stores.db.begin() as tx:
        return stores.events.append(tx, "run.started", "run:1", Scope()).id


def test_a_sealer_seals_on_its_own_and_what_is_left_when_it_stops(stores: Stores) -> None:
    sealer = Sealer(stores.events, interval_s=0.02)
    sealer.start()
    sealer.start()
    assert wait_for_position(stores, append(stores)) == 1
    sealer.stop()
    slow = Sealer(stores.events, interval_s=60)
    slow.start()
    last = append(stores)
    slow.stop()
    assert stores.events.get(last).position == 2
    slow.stop()


def test_a_sealer_outlives_a_database_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = open_stores(Location(tmp_path, tmp_path / ".loopwright", Settings()), ())
    sealer = Sealer(stores.events, interval_s=0.02)
    hidden = tmp_path / "hidden"
    stores.close()
    stores.data.rename(hidden)
    sealer.start()
    time.sleep(0.1)
    hidden.rename(stores.data)
    assert wait_for_position(stores, append(stores)) == 1
    sealer.stop()
    stores.close()
