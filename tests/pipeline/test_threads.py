"""The threads of numerical libraries in worker processes."""

from __future__ import annotations

import pytest
from tests.pipeline.conftest import Project

FLOW = """
import os

@step(cache=False)
def policy() -> str:
    return os.environ["OMP_WAIT_POLICY"]

@pipeline
def main():
    return {"policy": policy()}
"""


@pytest.mark.parametrize(("given", "found"), [("", "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_openmp_wait_asleep_unless_somebody_says_otherwise(
    project: Project, monkeypatch: pytest.MonkeyPatch, given: str, found: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    project.write("flow.py", FLOW)
    assert project.pipelines.run("flow:main").outputs["policy"] == found
