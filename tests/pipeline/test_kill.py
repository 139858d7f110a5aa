"""A process that runs a pipeline is killed at any moment; the same run goes on and nothing is done twice or lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from loopwright.core import new_id
from loopwright.pipeline import StepStatus

from .conftest import Project  # isort: skip

FLOW = """
from marks import mark

@step
def one():
    time.sleep(0.15)
    mark("one")
    return 1

@step(effect=True)
def two(x):
    time.sleep(0.15)
    mark("two")
    return x + 1

@step
def three(x):
    context().log_metric("x", x)
    time.sleep(0.15)
    return {"x": x * 10}

@pipeline
def main():
    return {"x": three(two(one()))["x"]}
"""
RUNNER = """
import sys
from loopwright.workspace import open_workspace
with open_workspace(sys.argv[1]) as ws:
    print("ready", flush=True)
    print(ws.pipelines.run("flow:main", run_id=sys.argv[2]).outputs)
"""


def start(project: Project, run_id: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(project.root), run_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )


@pytest.mark.fault
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_outcome(project: Project) -> None:
    project.write("flow.py", FLOW)
    delays = random.Random(5)
    for attempt in range(5):
        project.forget_calls()
        project.write(
            "flow.py", FLOW.replace("time.sleep(0.15)\n    mark", f"time.sleep(0.15 + {attempt} * 0)\n    mark")
        )
        run_id = new_id()
        process = start(project, run_id)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delays.uniform(0.2, 1.6))
        workers = psutil.Process(process.pid).children() if psutil.pid_exists(process.pid) else []
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        _gone(workers)
        before = project.pipelines._records.steps(run_id)
        if project.runs.search(f"attributes.id = '{run_id}' and status = 'finished'"):
            continue

        run = project.pipelines.run("flow:main", run_id=run_id)
        assert run.outputs == {"x": 20}
        assert project.runs.get(run_id).metrics == {"x": 2.0}
        for step in run.steps:
            was = before.get(step.name)
            if was is not None and was.status is StepStatus.FINISHED:
                assert step.cached, step
        assert project.stores.events.verify().ok
    assert project.stores.db.check() == []


@pytest.mark.fault
def test_workers_end_with_the_process_that_started_them(project: Project) -> None:
    project.write("flow.py", FLOW.replace('time.sleep(0.15)\n    mark("one")', "mark('one'); time.sleep(600)"))
    process = start(project, new_id())
    deadline = time.monotonic() + 60
    while "one" not in project.calls():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    _gone(workers)


def _gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert alive == []


def test_a_worker_has_no_path_to_a_pickle() -> None:
    """What workers exchange is JSON; codecs write no pickle."""
    package = Path(__file__).resolve().parents[2] / "src" / "loopwright" / "pipeline"
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for word in ("import pickle", "cloudpickle", "joblib", "allow_pickle=True", "marshal"):
            assert word not in text, (file, word)
