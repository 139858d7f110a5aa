"""Fixtures of the demos: a copy of the flights project, importable."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from loopwright.demos.flights import source

PROJECT = Path(source.__file__).parent / "project"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in ("loopwright.toml", "delay.py", "flight_features.py"):
        shutil.copy(PROJECT / file, tmp_path / file)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("delay", "flight_features"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path
