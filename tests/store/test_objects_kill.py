"""kill -9 of a process that writes objects leaves no half object, and loses none that was acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loopwright.store.objects import FolderStore

WRITER = """
import os, sys
from pathlib import Path
from loopwright.store.objects import FolderStore

store, number = FolderStore(Path(sys.argv[1])), int(sys.argv[2]) * 1_000_000
while True:
    number += 1
    shared = (str(number % 7) * 3_000_000).encode()
    own = number.to_bytes(8, "big") * 200_000
    for data in (shared, own):
        print(store.put_bytes(data), flush=True)
"""

LIGHT = """
import sys
import loopwright.store.objects
heavy = {"sqlalchemy", "alembic", "polars", "deltalake", "numpy", "pandas", "pyarrow", "fsspec", "redis"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.fault
def test_a_killed_writer_leaves_no_half_object(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    chance = random.Random(5)
    for round_ in range(8):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
            )
            for number in (2 * round_, 2 * round_ + 1)
        ]
        for writer in writers:
            acknowledged.add(writer.stdout.readline().strip())  # it has begun, however slow the machine is
        time.sleep(0.1 + chance.random() * 0.3)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            output = writer.communicate()[0]
            acknowledged.update(line for line in output.split("\n")[:-1])
    store = FolderStore(tmp_path)
    found = {stat.digest for stat in store.iterate()}
    assert len(acknowledged) > 20
    assert acknowledged <= found
    assert [digest for digest in found if not store.verify(digest)] == []


def test_objects_need_no_sql_and_no_tables() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
