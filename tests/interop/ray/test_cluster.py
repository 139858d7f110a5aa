"""Steps on a cluster that somebody else runs: two nodes, and stores that everybody reaches by URL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.interop.ray.cluster import Cluster, running_cluster
from tests.servers_bytes import S3Place

import loopwright as lw

FLOW = """
import os
import time
from pathlib import Path

import loopwright as lw
from parts.numbers import doubled
from loopwright.pipeline import context, pipeline, step

@step
def rows(data: str) -> list:
    ws = context().ws
    table = ws.datasets.read(data)
    print("read", table.height, "rows")
    context().log_metric("rows", table.height)
    return table["a"].to_list()

@step
def where(values: list, name: str) -> dict:
    time.sleep(1.0)
    return {"values": doubled(values), "file": __file__, "node": os.environ["RAY_RAYLET_PID"], "pid": os.getpid()}

@step
def both(a: dict, b: dict) -> dict:
    return {"a": a, "b": b}

@step
def bad(values: list):
    print("about to fail")
    raise ValueError(f"{len(values)} rows are not enough")

@step(timeout_s=2)
def slow(values: list):
    print("about to sleep", flush=True)
    time.sleep(600)

@step
def crash(values: list):
    os.abort()

@pipeline
def main(data: str = "dataset:d"):
    values = rows(data)
    return both(where(values, "a"), where(values, "b"))

@pipeline
def failing(data: str = "dataset:d"):
    return bad(rows(data))

@pipeline
def sleeping(data: str = "dataset:d"):
    return slow(rows(data))

@step
def wait_for_ever(note: str):
    Path(note).write_text(str(os.getpid()))
    time.sleep(600)

@pipeline
def waiting(note: str):
    return wait_for_ever(note)

@pipeline
def crashing(data: str = "dataset:d"):
    return crash(rows(data))
"""
DRIVER = """
import json, sys
import loopwright as lw
from loopwright.core import LoopwrightError

with lw.connect(".") as ws:
    try:
        run = ws.pipelines.run(sys.argv[1], workers=2)
        told = {"id": run.run_id, "outputs": run.outputs, "cached": [step.cached for step in run.steps]}
    except LoopwrightError as error:
        told = {"kind": type(error).__name__, "message": str(error), "where": error.where}
        told["id"] = getattr(error, "run_id", "")
print(json.dumps(told))
"""
Run = Callable[..., dict]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def settings(postgres_url: str, s3_place: S3Place, redis_url: str) -> dict[str, object]:
    """A workspace that every machine reaches."""
    stores = {"objects": f"{s3_place.url}/objects", "tables": f"{s3_place.url}/tables"}
    return {"db": postgres_url, "online": redis_url, **stores, "storage_options": s3_place.options}


@pytest.fixture
def run(cluster: Cluster, settings: dict[str, object], tmp_path: Path) -> Run:
    """Runs a pipeline in a process of its own, in a project's folder: `run("flow:main", compute=…)`."""
    from loopwright.pipeline.ray_host import as_toml

    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "numbers.py").write_text("def doubled(values):\n    return [2 * value for value in values]\n")
    (tmp_path / "flow.py").write_text(FLOW)

    def go(name: str, compute: str = cluster.address, search: str = "", **changes: object) -> dict:
        (tmp_path / "loopwright.toml").write_text(as_toml({**settings, "compute": compute, **changes}))
        command = [sys.executable, "-c", DRIVER, name]
        environ = {**cluster.environ, "PYTHONPATH": search}
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    (tmp_path / "loopwright.toml").write_text(as_toml(settings))
    with lw.connect(tmp_path) as ws:
        import polars as pl

        ws.datasets.ingest("d", pl.DataFrame({"a": [1, 2, 3]}))
    return go


@pytest.mark.parametrize("way", ["address", "client"])
def test_steps_run_on_the_clusters_nodes_from_the_captured_code(
    run: Run, cluster: Cluster, tmp_path: Path, way: str
) -> None:
    told = run("flow:main", compute=getattr(cluster, way))
    assert "outputs" in told, told
    a, b = told["outputs"]["result"]["a"], told["outputs"]["result"]["b"]
    assert a["values"] == b["values"] == [2, 4, 6]
    assert not Path(a["file"]).is_relative_to(tmp_path)
    assert a["node"] != b["node"]
    with lw.connect(tmp_path) as ws:
        kept = ws.runs.get(told["id"])
        assert (kept.status, kept.metrics) == ("finished", {"rows": 3.0})
        assert ws.runs.artifact(kept.id, "logs/rows.txt") == b"read 3 rows\n"
        assert [item.ref for item in kept.inputs] == ["dataset:d@1"]


def test_an_output_of_the_cluster_is_an_output_here(run: Run, cluster: Cluster) -> None:
    assert run("flow:main")["cached"] == [False, False, False, False]
    assert run("flow:main", compute="local")["cached"] == [True, True, True, True]


def test_a_step_that_raises_there_names_the_file_here(run: Run, tmp_path: Path) -> None:
    told = run("flow:failing")
    line = FLOW.split("\n").index('    raise ValueError(f"{len(values)} rows are not enough")') + 1
    assert told["where"] == f"{tmp_path}/flow.py:{line}"
    assert "step 'bad' of flow:failing failed: ValueError: 3 rows are not enough" in told["message"]
    with lw.connect(tmp_path) as ws:
        assert ws.runs.artifact(told["id"], "logs/bad.txt") == b"about to fail\n"
        assert f'File "{tmp_path}/flow.py", line {line}' in ws.runs.artifact(told["id"], "error/traceback.txt").decode()


def test_limits_and_crashes_are_told_as_they_are_here(run: Run, tmp_path: Path) -> None:
    told = run("flow:sleeping")
    assert "did not end within its 2 s" in told["message"]
    with lw.connect(tmp_path) as ws:
        assert ws.runs.artifact(told["id"], "logs/slow.txt") == b"about to sleep\n"
    assert "was ended by signal 6" in run("flow:crashing")["message"]


def test_stores_that_other_machines_cannot_reach_are_refused(run: Run) -> None:
    told = run("flow:main", db="", online="")
    assert told["kind"] == "Invalid"
    assert "cannot reach the embedded db, online" in told["message"]


def test_a_cluster_that_does_not_answer_is_told(run: Run) -> None:
    told = run("flow:main", compute="127.0.0.1:9")
    assert told["kind"] == "Unavailable"
    assert "127.0.0.1:9 does not answer" in told["message"]


def test_a_place_that_is_none_is_refused(run: Run) -> None:
    assert "no place to run steps" in run("flow:main", compute="raay")["message"]


def test_a_machine_with_other_libraries_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "more" / "only_here-1.0.dist-info").mkdir(parents=True)
    told = run("flow:main", search=str(tmp_path / "more"))
    assert told["kind"] == "Unavailable"
    assert "package only-here: 1.0 → absent" in told["message"]


def test_a_killed_driver_leaves_no_step_on_the_cluster(run: Run, cluster: Cluster, tmp_path: Path) -> None:
    run("flow:main")
    note = tmp_path / "pid"
    code = f"import loopwright as lw; lw.connect('.').pipelines.run('flow:waiting', {{'note': {str(note)!r}}})"
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=cluster.environ)
    try:
        wait_until(lambda: note.exists() and note.read_text(), 60.0)
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not psutil.pid_exists(int(note.read_text())), 60.0)


def wait_until(holds: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
