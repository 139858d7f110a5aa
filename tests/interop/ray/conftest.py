"""Projects whose steps run on Ray: one that this process starts, and a cluster of two machines that it joins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.pipeline.test_running")

from tests.pipeline.conftest import MARK, Project  # noqa: E402 - after the assertions are to be rewritten

from loopwright.core import Settings  # noqa: E402
from loopwright.store import Stores  # noqa: E402


@pytest.fixture
def project(make_sqlite_stores: Callable[..., Stores], tmp_path: Path) -> Project:
    """A project whose settings say `compute = "ray"`."""
    found = Project(tmp_path, make_sqlite_stores(tmp_path, settings=Settings(compute="ray")))
    found.write("marks.py", MARK)
    return found
