"""`compute = "ray"`: a Ray of this machine that is there for the run, and for nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from tests.pipeline.conftest import Project

from loopwright.core import Scope, Settings
from loopwright.pipeline import PipelineService
from loopwright.store import Stores
from loopwright.track import RunService

FLOW = """
@step
def one() -> int:
    return 1

@step
def two(x: int) -> int:
    return x + 1

@pipeline
def main():
    return two(one())
"""
INTRUDER = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("INSIDE", ray.get(ray.remote(lambda: 1).remote()))
"""


def test_ray_is_there_for_the_run_and_the_environment_is_as_before(project: Project) -> None:
    project.write("flow.py", FLOW)
    before, path = dict(os.environ), list(sys.path)
    assert project.run().outputs == {"result": 2}
    assert not sys.modules["ray"].is_initialized()
    changed = {name for name, value in os.environ.items() if before.get(name) != value}
    assert (changed & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}, sys.path) == (set(), path)
    theirs = {name for name in changed if name.startswith("RAY_")} | {"PYTHONBREAKPOINT"}  # Ray's own doing
    assert (changed - theirs, before.keys() - os.environ.keys()) == (set(), set())


def test_local_and_ray_share_the_cache(project: Project, make_sqlite_stores: Callable[..., Stores]) -> None:
    project.write("flow.py", FLOW)
    project.run()
    stores = make_sqlite_stores(project.root, settings=Settings(compute="local"))
    here = PipelineService(stores, Scope(), runs=RunService(stores, Scope()))
    assert [step.cached for step in here.run("flow:main").steps] == [True, True]


def test_nobody_without_the_token_gets_in(project: Project) -> None:
    with project.pipelines.session():
        import ray  # not before: whoever imports it first decides whether it asks for a token

        address = ray.get_runtime_context().gcs_address
        bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        command = [sys.executable, "-c", INTRUDER, address]
        try:
            done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=90, check=False)
            code, told = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as late:
            code, told = 1, str(late.stdout) + str(late.stderr)
    assert code != 0
    assert "INSIDE" not in told
    assert "authenticat" in told.lower() or "token" in told.lower(), told[-2000:]
