"""The page on autolog works as it is written, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "autolog.md"
THEIRS = "class Done:\n    loss = 0.25\n\ndef train(rate):\n    return Done\n"
AFTER = """
import loopwright as lw
lw.autolog()
import tinytrain
tinytrain.train(3)
from loopwright.recording.spooling import spool_for
assert spool_for()[0].flush()
with lw.connect() as ws:
    [run] = ws.runs.search("tags.`loopwright.autolog` = 'tinytrain'")
    print(run.params, run.metrics)
"""


def run(folder: Path, program: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOPWRIGHT_")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "autolog lost" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_block_does_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "tinytrain.py").write_text(THEIRS, encoding="utf-8")
    first, look, choose, another = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    run(tmp_path, first)
    best, kept = run(tmp_path, look).splitlines()
    assert re.fullmatch(r"(0\.1|1\.0|10\.0) 0\.9\d+", best)
    assert kept == "bundle ['model/bundle.json', 'model/environment.txt']"
    run(tmp_path, choose)
    assert run(tmp_path, another + AFTER) == "{'rate': '3'} {'loss': 0.25}\n"
