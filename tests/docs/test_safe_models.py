"""The page on safe models works as it is written, line by line, from an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "safe-models.md"
REFUSED = "loopwright models import iris.joblib --name iris --sample rows.csv"


@pytest.mark.slow
def test_every_line_does_what_the_page_says(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOPWRIGHT_")}
    environment["PATH"] = path

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    [program] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    made = run(sys.executable, "-c", program)
    assert made.returncode == 0, made.stderr
    blocks = re.findall(r"```(console|toml)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    for kind, block in blocks:
        if kind == "toml":
            (tmp_path / "loopwright.toml").write_text(block)
            continue
        for line in block.splitlines():
            done = run(*line.removeprefix("$ ").split())
            assert done.returncode == (2 if line.removeprefix("$ ") == REFUSED else 0), (line, done.stderr)
    assert "--allow-pickle" in run(*REFUSED.split()).stderr
    assert "Signatures" in (tmp_path / "card.html").read_text()
