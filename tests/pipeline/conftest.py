"""A project of its own for each test: modules are written into a folder, pipelines run in real processes."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from loopwright.core import Scope
from loopwright.pipeline import PipelineRun, PipelineService
from loopwright.store import Stores
from loopwright.track import RunService

HEAD = """
import os, time
from pathlib import Path
from loopwright.pipeline import context, pipeline, step
"""


class Project:
    """A folder with code, and a workspace in it."""

    def __init__(self, root: Path, stores: Stores) -> None:
        from loopwright.data import DatasetService

        self.root, self.stores = root, stores
        self.runs = RunService(stores, Scope())
        self.datasets = DatasetService(stores, Scope())
        self.pipelines = PipelineService(stores, Scope(), runs=self.runs, datasets=self.datasets)

    def write(self, name: str, text: str) -> Path:
        """Write a file; Python gets the usual imports."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = textwrap.dedent(text)
        path.write_text(HEAD + body if name.endswith(".py") else body, encoding="utf-8")
        return path

    def run(self, name: str = "main", **params: object) -> PipelineRun:
        """Run a pipeline of `flow.py`."""
        return self.pipelines.run(f"flow:{name}", params)

    def calls(self) -> list[str]:
        """What steps wrote with `mark`, in order: how often each really ran."""
        path = self.root / "calls.log"
        return path.read_text().split() if path.exists() else []

    def forget_calls(self) -> None:
        """Start counting anew."""
        (self.root / "calls.log").unlink(missing_ok=True)


MARK = """
def mark(name):
    with open(os.environ["LOOPWRIGHT_WORKSPACE"] + "/calls.log", "a") as file:
        file.write(name + "\\n")
"""


@pytest.fixture
def project(make_sqlite_stores: Callable[..., Stores], tmp_path: Path) -> Project:
    found = Project(tmp_path, make_sqlite_stores(tmp_path))
    found.write("marks.py", MARK)
    return found


@pytest.fixture
def restored_path() -> None:
    """Nothing of a test's project stays importable."""
    before = list(sys.path)
    yield
    sys.path[:] = before
