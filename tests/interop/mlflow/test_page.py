"""The page on coming from MLflow does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "coming-from-mlflow.md"


def test_every_program_of_the_page_works(up: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    programs = [
        re.sub(r"^ {4}", "", block, flags=re.MULTILINE).replace("http://127.0.0.1:8000", up) for block in blocks
    ]
    told = []
    for program in programs:
        environ = {"PATH": "", "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": up, "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.strip().splitlines()[-1])
    assert told == ["['first']", "first 0.1 0.1"]
