"""The code on the page about the edge runs in a folder that was exported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tests.shape.source import ROOT

from loopwright.models import build_bundle
from loopwright.serve import EdgePlan, export_edge

pytestmark = pytest.mark.slow


def test_the_code_runs_in_the_exported_folder(tmp_path: Path) -> None:
    rows = pl.DataFrame({"distance": [100.0, 700.0, 900.0, 200.0], "carrier": ["AA", "UA", "AA", "UA"]})
    encoded = ColumnTransformer([("words", OneHotEncoder(), ["carrier"])], remainder="passthrough")
    model = make_pipeline(encoded, LogisticRegression()).fit(rows, [0, 1, 1, 0])
    bundle = build_bundle(model, rows, folder=tmp_path / "bundle")
    assert export_edge(bundle, tmp_path / "edge", EdgePlan(), ref="delay", digest="ab" * 32).passed
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/edge.md").read_text(), re.DOTALL)
    lines = [f"print({line.partition('#')[0]})" if line.startswith("predict(") else line for line in block.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path / "edge", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert "probability" in first
