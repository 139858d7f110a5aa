"""What a run ran, on its page and beside another run: commit, uncommitted changes, environment, files that changed."""

import subprocess
from pathlib import Path

import pytest
from tests.ui.conftest import Site
from tests.ui.test_pages import Reader

from loopwright.workspace import Workspace

FLOW = """
from loopwright.pipeline import context, pipeline, step

@step
def add(x: int) -> int:
    context().log_metric("score", x + {plus})
    return x + {plus}  # {note}

@pipeline
def main(x: int = 1):
    return add(x)
"""
NOTE = "<script>window.pwned=1</script>"


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def two_runs(ws: Workspace) -> tuple[str, str]:
    """Two runs of a pipeline, the second with a changed line that is not committed; the first is the baseline."""
    root = ws.location.root
    (root / "flow.py").write_text(FLOW.format(plus=1, note="one"))
    (root / ".gitignore").write_text(".loopwright/\n__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    first = ws.pipelines.run("flow:main", name="before").run_id
    (root / "flow.py").write_text(FLOW.format(plus=2, note=NOTE))
    second = ws.pipelines.run("flow:main", name="after").run_id
    ws.runs.pin_baseline(ws.runs.get(first).experiment, first)
    return first, second


@pytest.mark.slow
def test_what_changed_in_the_code_is_shown_line_by_line_and_inert(fresh: Site) -> None:
    first, second = two_runs(fresh.ws)
    http = fresh.client()
    for path in (f"/p/default/runs/{second}/code", f"/p/default/compare?run={first}&run={second}"):
        page = http.get(path).text
        assert f"+    return x + 2  # {NOTE}" in Reader(page).text
        assert '<span class="del">-    return x + 1' in page
        assert "<script>window" not in page
    code = Reader(http.get(f"/p/default/runs/{second}/code").text).text
    for told in ("Since the baseline", "Uncommitted changes", "flow:main", "loopwright reproduce", "polars", "add"):
        assert told in code
    overview = Reader(http.get(f"/p/default/runs/{second}").text).text
    assert "to baseline" in overview
    assert "+1" in overview
