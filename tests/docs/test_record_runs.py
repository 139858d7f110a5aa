"""The page on recording runs works as it is written, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "record-runs.md"


def run(folder: Path, *arguments: str) -> str:
    # xdist tells its workers the width of its own terminal.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LOOPWRIGHT_", "COLUMNS"))}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_block_does_what_the_page_says(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    first, look, steps, media, parts = (run(tmp_path, "-c", program).strip() for program in programs)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert look == f"run-{first[-6:]} 0.05 20"
    assert steps == "[0, 100, 101]"
    assert media.splitlines() == [
        "images/sample/00000000.png",
        "images/sample/00000001.png",
        "notes.txt",
        "recall.parquet",
        "roc.html",
        "tone.wav",
        "weights/raw.bin",
    ]
    assert parts == "2 {'from a thread': 1.0}"
    lines = re.findall(r"^\$ (loopwright .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed, shown, synced = (run(tmp_path, "-m", *shlex.split(line.replace("RUN", first))) for line in lines)
    assert "loss=0.05" in listed
    assert "digits" in shown
    assert "nothing here" in synced
