"""What a writer was told to be stored is there after kill -9, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loopwright.core import Scope
from loopwright.store import Stores
from loopwright.track import RunService

WRITER = """
import sys
from pathlib import Path
from datetime import UTC, datetime
from loopwright.core import Location, Settings, Scope
from loopwright.store import open_stores
from loopwright.track import RunService, MetricPoint
root, name, migrations = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
runs = RunService(open_stores(Location(root, root / ".loopwright", Settings()), migrations), Scope())
run = runs.start("kill", name).id
print(run, flush=True)
at = datetime(2026, 1, 1, tzinfo=UTC)
for step in range(100_000):
    runs.log_points(run, [MetricPoint("m", step + 0.5, step, at)])
    runs.log_points(run, [MetricPoint("m", step + 0.5, step, at)])
    print(step, flush=True)
"""


@pytest.mark.fault
def test_acknowledged_points_survive_a_kill(stores_sqlite: Stores, tmp_path: Path, migrations: tuple[str, ...]) -> None:
    arguments = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*arguments, f"w{number}", ",".join(migrations)], stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    seen: list[tuple[str, int]] = []
    for number, writer in enumerate(writers):
        assert writer.stdout is not None
        run = writer.stdout.readline().strip()
        for _ in range(5 + number * 7):
            writer.stdout.readline()
        time.sleep(0.05 * number)
        os.kill(writer.pid, signal.SIGKILL)
        rest = [line for line in writer.stdout.read().split("\n")[:-1] if line]
        acknowledged = 5 + number * 7 + len(rest)
        writer.wait(10)
        seen.append((run, acknowledged))

    runs = RunService(stores_sqlite, Scope())
    for run, acknowledged in seen:
        steps = runs.history(run, "m").steps
        assert len(steps) in (acknowledged, acknowledged + 1)
        assert steps == list(range(len(steps)))
        assert runs.get(run).metrics["m"] == len(steps) - 0.5
        assert runs.get(run).status == "running"
    assert stores_sqlite.db.check() == []
