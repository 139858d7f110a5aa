"""What changed in code, environment and inputs from one run to another."""

from __future__ import annotations

import pytest
from tests.pipeline.conftest import Project

FLOW = """
@step
def add(x: int) -> int:
    return x + {plus}

@pipeline
def main(x: int = 1):
    return add(x)
"""


@pytest.mark.slow
def test_a_changed_line_an_added_and_a_removed_file_are_shown(project: Project) -> None:
    project.write("flow.py", FLOW.format(plus=1))
    project.write("gone.py", "old = 1\n")
    first = project.run().run_id
    project.write("flow.py", FLOW.format(plus=2))
    (project.root / "gone.py").unlink()
    project.write("fresh.yaml", "a: 1\n")
    second = project.run().run_id
    found = project.pipelines.differences(first, second)
    assert found is not None
    changes = {file.path: file for file in found.files}
    assert {path: file.change for path, file in changes.items()} == {
        "flow.py": "changed",
        "fresh.yaml": "added",
        "gone.py": "removed",
    }
    assert "-    return x + 1" in changes["flow.py"].diff.splitlines()
    assert "+    return x + 2" in changes["flow.py"].diff.splitlines()
    assert changes["fresh.yaml"].diff.splitlines()[-1] == "+a: 1"
    assert all(file.whole for file in found.files)
    assert found.packages == {}


@pytest.mark.slow
def test_the_same_code_differs_in_nothing(project: Project) -> None:
    project.write("flow.py", FLOW.format(plus=1))
    found = project.pipelines.differences(project.run().run_id, project.run(x=2).run_id)
    assert found is not None
    assert found.files == ()
    assert found.is_empty


@pytest.mark.slow
def test_bytes_and_large_files_are_named_and_not_shown(project: Project) -> None:
    project.write("flow.py", FLOW.format(plus=1))
    project.write("table.json", "1\n" * 200_000)
    first = project.run().run_id
    project.write("table.json", "2\n" * 200_000)
    (project.root / "odd.toml").write_bytes(b"\xff\xfe")
    second = project.run().run_id
    found = project.pipelines.differences(first, second)
    assert found is not None
    shown = {file.path: (file.change, file.diff, file.whole) for file in found.files}
    assert shown == {"odd.toml": ("added", "", False), "table.json": ("changed", "", False)}


def test_a_run_that_captured_nothing_cannot_be_told_apart(project: Project) -> None:
    project.write("flow.py", FLOW.format(plus=1))
    bare = project.runs.start().id
    assert project.pipelines.differences(bare, project.run().run_id) is None
