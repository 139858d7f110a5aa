"""The page on bundles works as it is written, in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "bundles.md"


def run(folder: Path, program: str) -> str:
    """The program as a file, as a reader would have it."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_block_does_what_the_page_says(tmp_path: Path) -> None:
    first, bands, use, rebuild = re.findall(r"```python[^\n]*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert run(tmp_path, first) == "onnx/sklearn 1.0\n"
    (tmp_path / "bands.py").write_text(bands, encoding="utf-8")
    assert run(tmp_path, use).startswith("[ 5. 20.] ('memory', ")
    compile(rebuild, "rebuild", "exec")
