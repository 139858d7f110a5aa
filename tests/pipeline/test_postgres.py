"""The same records on PostgreSQL: a run, its cache, a run that goes on, a search, a reproduction."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.core import Scope, new_id
from loopwright.pipeline import StepFailed, Verdict
from loopwright.store import Stores
from loopwright.train import TrainService, TrialState, uniform

from .conftest import MARK, Project  # isort: skip

FLOW = """
from marks import mark

@step
def square(x: float) -> dict:
    mark("square")
    for number in range(3):
        context().report(-x * x, number)
    return {"y": -x * x}

@step
def check(made: dict) -> float:
    if not Path(os.environ["LOOPWRIGHT_WORKSPACE"], "mended").exists():
        raise ValueError("not yet")
    context().log_metric("y", made["y"])
    return made["y"]

@pipeline
def main(x: float = 0.5):
    return {"y": check(square(x))}
"""


@pytest.mark.postgres
def test_pipelines_and_searches_on_postgresql(stores_postgres: Stores, tmp_path: Path) -> None:
    project = Project(tmp_path, stores_postgres)
    project.write("marks.py", MARK)
    project.write("flow.py", FLOW)
    run_id = new_id()
    with pytest.raises(StepFailed, match="not yet"):
        project.pipelines.run("flow:main", run_id=run_id)
    (tmp_path / "mended").touch()
    run = project.pipelines.run("flow:main", run_id=run_id)
    assert (run.outputs, project.runs.get(run_id).metrics["y"]) == ({"y": -0.25}, -0.25)
    assert project.calls() == ["square"]
    assert [step.cached for step in project.run().steps] == [True, True]
    assert project.pipelines.reproduce(run_id).verdict is Verdict.IDENTICAL

    train = TrainService(stores_postgres, Scope(), runs=project.runs, pipelines=project.pipelines)
    found = train.search("flow:main", {"x": uniform(-1, 1)}, metric="y", trials=4, pruner="none")
    assert [trial.state for trial in found.trials] == [TrialState.FINISHED] * 4
    assert train.search_result(found.id) == found
    assert len(project.runs.search(f"parent = '{found.id}' and metrics.y <= 0")) == 4
