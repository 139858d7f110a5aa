"""A run is run again from what it captured, and the report says what is the same and what moved."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest
from sqlalchemy import update

from loopwright.core import Conflict, NotFound, decode
from loopwright.pipeline import Environment, StepFailed, Verdict
from loopwright.pipeline.tables import pipeline_runs
from loopwright.track import RunStatus

from .conftest import Project  # isort: skip

FLOW = """
from marks import mark
import random

@step
def draw(n: int) -> list:
    mark("draw")
    return [random.random() + NOISE() for _ in range(n)]

def NOISE():
    return 0.0

@step
def score(values: list) -> dict:
    context().log_metric("mean", sum(values) / len(values))
    return {"mean": sum(values) / len(values)}

@step(effect=True)
def register(score: dict) -> str:
    mark("register")
    return "model:x@1"

@pipeline
def main(n: int = 3, d: str = "dataset:d"):
    scores = score(draw(n))
    return {"mean": scores["mean"], "model": register(scores)}
"""


@pytest.fixture
def made(project: Project) -> Project:
    project.datasets.ingest("d", pl.DataFrame({"a": [1]}))
    project.write("flow.py", FLOW)
    return project


def verdicts(found: object) -> dict[str, Verdict]:
    return {item.name: item.verdict for item in found.comparisons}  # type: ignore[attr-defined]  # a Reproduction


@pytest.mark.slow
def test_the_same_code_data_and_seed_give_the_identical_outcome(made: Project) -> None:
    run = made.run()
    found = made.pipelines.reproduce(run.run_id)
    assert (found.verdict, found.moved) == (Verdict.IDENTICAL, [])
    assert verdicts(found) == dict.fromkeys(("draw", "score", "metrics.mean"), Verdict.IDENTICAL)
    again = made.runs.get(found.new_run)
    assert (again.kind, again.tags["reproduces"], again.tags["reproduction"]) == (
        "reproduction",
        run.run_id,
        "identical",
    )
    assert made.calls() == ["draw", "register", "draw"]
    assert made.pipelines.get(found.new_run).outputs["model"] == "model:x@1"


@pytest.mark.slow
def test_the_captured_code_is_run_and_not_the_present_one(made: Project) -> None:
    run = made.run()
    made.write("flow.py", FLOW.replace("return 0.0", "return 5.0"))
    made.write("marks.py", "raise RuntimeError('the present code was imported')")
    made.datasets.ingest("d", pl.DataFrame({"a": [2]}))
    found = made.pipelines.reproduce(run.run_id)
    assert (found.verdict, found.moved) == (Verdict.IDENTICAL, [])
    assert made.runs.get(found.new_run).params["d"] == "dataset:d@1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "verdict"),
    [("1e-9 * time.time() % 1e-8", Verdict.WITHIN_TOLERANCE), ("time.time() % 100", Verdict.DIFFERENT)],
)
def test_a_run_that_depends_on_the_clock_is_found_out(made: Project, noise: str, verdict: Verdict) -> None:
    made.write("flow.py", FLOW.replace("return 0.0", f"return {noise}"))
    run = made.run()
    found = made.pipelines.reproduce(run.run_id, tolerance=1e-6)
    assert found.verdict is verdict
    [draw] = [item for item in found.comparisons if item.name == "draw"]
    assert draw.max_absolute is not None
    assert draw.max_absolute > 0
    assert draw.detail.startswith("draw[0]: ") == (verdict is Verdict.DIFFERENT)


@pytest.mark.slow
def test_what_moved_since_is_named(made: Project) -> None:
    run = made.run()
    capture = made.pipelines.record(run.run_id).capture
    assert capture is not None
    lock = decode(made.stores.objects.get(capture.environment), Environment)
    older = msgspec.structs.replace(lock, packages={**lock.packages, "polars": "0.1"})
    hardware = msgspec.structs.replace(capture.hardware, cores=999)
    moved = msgspec.structs.replace(capture, environment=made.stores.objects.put_bytes(older.lock()), hardware=hardware)
    with made.stores.db.begin() as tx:
        row = {"capture": msgspec.to_builtins(moved)}
        tx.execute(update(pipeline_runs).where(pipeline_runs.c.run_id == run.run_id).values(row))
    found = made.pipelines.reproduce(run.run_id)
    assert found.verdict is Verdict.IDENTICAL
    assert found.moved[0] == f"package polars: 0.1 → {lock.packages['polars']}"
    assert found.moved[1].startswith("hardware: ")
    assert len(found.moved) == 2


def test_only_a_finished_run_of_a_pipeline_can_be_reproduced(made: Project) -> None:
    with made.runs.active() as run:
        pass
    with pytest.raises(NotFound, match="was not made by a pipeline"):
        made.pipelines.reproduce(run.id)
    made.write("flow.py", FLOW.replace("return 0.0", "raise ValueError('no')"))
    with pytest.raises(StepFailed) as failed:
        made.run()
    assert made.runs.get(failed.value.run_id).status is RunStatus.FAILED
    with pytest.raises(Conflict, match="is failed"):
        made.pipelines.reproduce(failed.value.run_id)
