"""Outside systems are proved apart: each in a folder with exact versions, and not by `make test`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.shape.source import ROOT

FOLDER = ROOT / "tests" / "interop"
SYSTEMS = sorted(path for path in FOLDER.iterdir() if path.is_dir() and any(path.glob("*.py")))
EXACT = re.compile(r"[A-Za-z0-9._-]+(\[[\w,.-]+\])?==[^ ;*]+( *;.*)?")


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda path: path.name)
def test_a_system_has_exact_versions_and_tests(system: Path) -> None:
    files = [system / "requirements.txt", *system.glob("server.txt")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    asked = [line for line in lines if line and not line.startswith("#")]
    assert asked
    assert [line for line in asked if not EXACT.fullmatch(line)] == []
    assert list(system.glob("test_*.py"))


@pytest.mark.slow
def test_the_ordinary_tests_collect_none_of_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("tests/test_ours.py", "tests/interop/theirs/test_theirs.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def test_it() -> None:\n    pass\n", encoding="utf-8")
    assert collected(tmp_path) == ["tests/test_ours.py::test_it"]
    assert collected(tmp_path, "tests/interop/theirs") == ["tests/interop/theirs/test_theirs.py::test_it"]


def collected(root: Path, *chosen: str) -> list[str]:
    """The tests that pytest finds in a folder, with our settings."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]
