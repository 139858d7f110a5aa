"""A project with searches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pipeline.conftest import MARK, Project

from loopwright.core import Scope
from loopwright.store import Stores
from loopwright.train import TrainService


@pytest.fixture
def project(make_sqlite_stores: Callable[..., Stores], tmp_path: Path) -> Project:
    found = Project(tmp_path, make_sqlite_stores(tmp_path))
    found.write("marks.py", MARK)
    return found


@pytest.fixture
def train(project: Project) -> TrainService:
    return TrainService(project.stores, Scope(), runs=project.runs, pipelines=project.pipelines)
