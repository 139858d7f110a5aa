"""Searches over a pipeline, and inside a step: trials are runs, share the cache, are pruned, go on after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.pipeline.conftest import Project

from loopwright.core import Invalid
from loopwright.pipeline import RunRequest, StepFailed
from loopwright.train import TrainService, TrialState, integer, uniform

FLOW = """
from marks import mark

@step
def load(rows: int) -> list:
    mark("load")
    return list(range(rows))

@step
def fit(data: list, rate: float, depth: int) -> dict:
    mark(f"fit-{rate:.4f}")
    for number in range(8):
        context().report(-abs(rate - 0.3) * (number + 1), number)
    if rate > BREAK:
        raise ValueError("too fast")
    context().log_metric("logged", -abs(rate - 0.3))
    return {"score": -abs(rate - 0.3) - depth, "other": "text"}

BREAK = 2

@pipeline
def main(rows: int = 3, rate: float = 0.1, depth: int = 0):
    made = fit(load(rows), rate, depth)
    return {"score": made["score"], "other": made["other"]}
"""
SPACE = {"rate": uniform(0.0, 1.0), "depth": integer(0, 2)}


@pytest.mark.slow
def test_a_search_over_a_pipeline(train: TrainService, project: Project) -> None:
    project.write("flow.py", FLOW)
    found = train.search("flow:main", SPACE, metric="score", trials=12, seed=4, params={"rows": 5})
    assert found.best_value is not None
    assert found.best_value == max(trial.value for trial in found.trials if trial.state is TrialState.FINISHED)
    assert project.calls().count("load") == 1
    pruned = [trial for trial in found.trials if trial.state is TrialState.PRUNED]
    assert pruned
    for trial in found.trials:
        run = project.runs.get(trial.run_id)
        assert (run.kind, run.parent, run.params["rows"]) == ("trial", found.id, "5")
        assert float(run.params["rate"]) == trial.params["rate"]
        assert run.tags["search"] == found.id
        assert run.status == "finished"
    assert project.pipelines.get(pruned[0].run_id).status == "pruned"
    assert len(pruned[0].reports) < 8
    best = project.runs.get(found.best_run)
    assert len(project.runs.history(best.id, "intermediate").values) == 8


@pytest.mark.slow
def test_the_metric_may_be_one_that_the_run_logged(train: TrainService, project: Project) -> None:
    project.write("flow.py", FLOW)
    found = train.search("flow:main", {"rate": uniform(0, 1)}, metric="logged", trials=2, pruner="none")
    assert found.best_value == project.runs.get(found.best_run).metrics["logged"]
    for metric in ("other", "nothing"):
        with pytest.raises(Invalid, match=f"has no number '{metric}'"):
            train.search("flow:main", {"rate": uniform(0, 1)}, metric=metric, trials=1)


@pytest.mark.slow
def test_a_search_may_share_processes_with_other_runs(train: TrainService, project: Project) -> None:
    project.write(
        "flow.py",
        """
import os
from marks import mark

@step(cache=False)
def fit(rate: float) -> float:
    mark(f"process-{os.getpid()}")
    return rate

@pipeline
def main(rate: float):
    return {"score": fit(rate)}
""",
    )
    with project.pipelines.session(workers=1) as session:
        for rate in (0.1, 0.2):
            train.search("flow:main", {"rate": uniform(0, 1)}, metric="score", trials=2, session=session)
            project.pipelines.run_in(session, RunRequest("flow:main", {"rate": rate}))
    assert len(project.calls()) == 6
    assert len(set(project.calls())) == 1


@pytest.mark.slow
def test_a_search_goes_on_after_a_step_was_mended(train: TrainService, project: Project) -> None:
    project.write("flow.py", FLOW.replace("BREAK = 2", "BREAK = 0.5"))
    space = {"rate": uniform(0.0, 1.0)}
    with pytest.raises(StepFailed, match="too fast"):
        train.search("flow:main", space, metric="score", trials=8, seed=4, pruner="none")
    [search] = project.runs.search("kind = 'search'")
    assert (search.status, search.error.startswith("StepFailed: ")) == ("failed", True)
    project.write("flow.py", FLOW)
    found = train.search("flow:main", space, metric="score", trials=8, seed=4, pruner="none", search_id=search.id)
    assert (found.id, len(found.trials)) == (search.id, 8)
    assert sum(trial.state is TrialState.FAILED for trial in found.trials) == 1


def test_what_is_no_search_is_refused(train: TrainService, project: Project) -> None:
    project.write("flow.py", FLOW)
    with pytest.raises(Invalid, match="names no hyperparameter"):
        train.search("flow:main", {}, metric="score")
    with pytest.raises(Invalid, match="no parameter 'speed'"):
        train.search("flow:main", {"speed": uniform(0, 1)}, metric="score", trials=1)


INSIDE = """
from marks import mark

@step
def tune(trials: int) -> dict:
    def objective(trial):
        x = trial.uniform("x", 0, 1)
        mark(f"trial-{trial.number}")
        if trial.number == 3 and not Path(os.environ["LOOPWRIGHT_WORKSPACE"], "mended").exists():
            os._exit(9)
        return -abs(x - 0.5)
    found = context().ws.train.search_objective(objective, metric="fit", trials=trials)
    return {"x": found.best_params["x"], "id": found.id}

@pipeline
def main(trials: int = 6):
    return tune(trials)
"""


@pytest.mark.slow
def test_a_search_inside_a_step_belongs_to_its_run_and_goes_on_by_itself(train: TrainService, project: Project) -> None:
    project.write("flow.py", INSIDE)
    with pytest.raises(StepFailed, match="exit code 9") as caught:
        project.run()
    run_id = caught.value.run_id
    (project.root / "mended").touch()
    run = project.pipelines.run("flow:main", run_id=run_id)
    found = train.search_result(run.outputs["result"]["id"])
    assert (project.runs.get(found.id).parent, project.runs.get(found.id).experiment) == (run_id, "main")
    assert found.best_params == {"x": run.outputs["result"]["x"]}
    assert [trial.state for trial in found.trials] == [TrialState.FINISHED] * 6
    assert project.calls() == ["trial-0", "trial-1", "trial-2", "trial-3", "trial-3", "trial-4", "trial-5"]
    assert project.runs.search("status = 'running'") == []
    assert {run.status for run in project.runs.search(f"parent = '{found.id}'")} == {"finished", "killed"}


RUNNER = """
import sys
from loopwright.train import uniform
from loopwright.workspace import open_workspace
with open_workspace(sys.argv[1]) as ws:
    ws.train.search("flow:main", {"rate": uniform(0.0, 1.0)}, metric="score", trials=30, seed=4, pruner="none")
"""


@pytest.mark.fault
def test_a_killed_search_goes_on_where_it_was(train: TrainService, project: Project) -> None:
    project.write("flow.py", FLOW)
    process = subprocess.Popen([sys.executable, "-c", RUNNER, str(project.root)], env={**os.environ, "PYTHONPATH": ""})
    deadline = time.monotonic() + 90
    while sum(name.startswith("fit") for name in project.calls()) < 4:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    [search] = project.runs.search("kind = 'search'")
    before = [trial for trial in train.search_result(search.id).trials if trial.state is TrialState.FINISHED]
    assert len(before) >= 3
    trials = len(before) + 2
    found = train.search(
        "flow:main",
        {"rate": uniform(0.0, 1.0)},
        metric="score",
        trials=trials,
        seed=4,
        pruner="none",
        search_id=search.id,
    )
    assert list(found.trials[: len(before)]) == before
    assert [trial.state for trial in found.trials] == [TrialState.FINISHED] * trials
    assert project.runs.search("status = 'running'") == []
