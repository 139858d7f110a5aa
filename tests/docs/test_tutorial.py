"""The tutorial works as it is written: its commands and its code, in an empty folder, against a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from loopwright.demos import UpProcess
from loopwright.loop import Loop, load_loops, load_scoring_jobs

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_loop_of_the_reference_is_a_loop(tmp_path: Path):
    (text,) = blocks(DOCS / "reference" / "loop.md", "yaml")
    file = tmp_path / "loop.yaml"
    file.write_text(text)
    (loop,) = load_loops(file)
    assert (loop.name, len(loop.gates), loop.rollout.steps) == ("delay", 4, (0.1, 0.3, 0.6))
    assert msgspec.convert(yaml.safe_load(text), Loop) == loop


def test_the_job_of_the_page_about_scoring_is_a_job(tmp_path: Path):
    (text,) = blocks(DOCS / "how-to" / "score.md", "yaml")
    (tmp_path / "scoring.yaml").write_text(text)
    (job,) = load_scoring_jobs(tmp_path / "scoring.yaml")
    assert (job.name, job.model, job.new_rows, len(job.triggers)) == ("nightly", "endpoint:delay", True, 2)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the workspace keeps its tables: named by the environment, so that the commands stay as they are written."""
    url = str(request.getfixturevalue("postgres_empty_url")) if request.param == "postgresql" else ""
    monkeypatch.setenv("LOOPWRIGHT_DB", url)
    return url


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_tutorial_ends_with_a_traced_prediction(tmp_path: Path, database: str):
    commands = [line[2:] for block in blocks(DOCS / "tutorial.md", "console") for line in block.splitlines()]
    begin, project = tmp_path, tmp_path / "tumours"
    up = UpProcess(project, port=0)
    try:
        for line in commands:
            if line == "loopwright up":
                answer = _ask(up.ensure(), project)
            elif line.startswith("loopwright events --follow"):
                assert "rollout.completed" in _run("loopwright events", project)
            elif "more.csv" in line:
                (project / "more.csv").write_text((tmp_path / "tumours.csv").read_text())
                assert "tumours@2" in _run(line, project)
            elif line != "cd tumours":
                folder = project if project.is_dir() else begin
                told = _run(line.replace("prediction:ID", f"prediction:{answer}") if "ID" in line else line, folder)
                assert told, line
        traced = _run(f"loopwright trace prediction:{answer} --json", project)
        assert all(part in traced for part in ("model:tumours@1", "dataset:tumours@1", "code:", "environment:"))
        asked = json.loads(_run(f"loopwright monitors prediction {answer} --json", project))
        assert (asked["endpoint"], asked["label"] in (0, 1)) == ("tumours", True)
        assert (project / ".loopwright" / "loopwright.db").exists() == (not database)
    finally:
        up.stop()


def _ask(url: str, folder: Path) -> str:
    """Run the tutorial's program against the server; the id that it prints."""
    import time

    (program,) = blocks(DOCS / "tutorial.md", "python")
    file = folder.parent / "ask.py"
    file.write_text(program.replace("http://127.0.0.1:8000", url))
    for _ in range(60):
        done = subprocess.run([sys.executable, str(file)], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        time.sleep(0.5)  # the release is decided by the controller, a moment after the server is up
    raise AssertionError(done.stderr)


def _run(line: str, folder: Path) -> str:
    words = shlex.split(line)
    program = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "loopwright"]
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LOOPWRIGHT_") or name == "LOOPWRIGHT_DB"
    }
    done = subprocess.run([*program, *words[1:]], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout or "(silent)"
