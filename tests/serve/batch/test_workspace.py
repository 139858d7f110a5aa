"""Batch scoring in a workspace: datasets in and out, recorded as runs, with the lineage of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.serve.conftest import adding_bundle

import loopwright
from loopwright.core import Invalid
from loopwright.serve.batch import ScoringOptions
from loopwright.track import RunStatus
from loopwright.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path, with_schema: Callable[[Path], Path]) -> Workspace:
    return loopwright.connect(str(with_schema(tmp_path / "ws")))


def test_a_dataset_is_scored_into_a_dataset_with_the_lineage_of_both(ws: Workspace, tmp_path: Path) -> None:
    ws.models.register("adder", adding_bundle(1.0, tmp_path / "bundle"))
    ws.datasets.ingest("rows", pl.DataFrame({"id": range(50), "x": [float(n) for n in range(50)]}))
    report = ws.scoring.predict("model:adder@1", "dataset:rows", "dataset:answers", ScoringOptions(part_rows=7))
    assert (report.rows, report.model, report.input) == (50, "model:adder@1", "dataset:rows@1")
    assert report.output == "dataset:answers@1"
    answers = ws.datasets.read("dataset:answers@1").sort("id")
    assert answers["value"].to_list() == [n + 1.0 for n in range(50)]
    run = ws.runs.get(report.run)
    assert (run.status, run.kind, run.metrics["rows"]) == (RunStatus.FINISHED, "scoring", 50.0)
    assert {item.ref for item in run.inputs} == {"model:adder@1", "dataset:rows@1"}
    came_from = {node.ref for node in ws.lineage.trace("dataset:answers@1").nodes}
    assert {f"run:{run.id}", "model:adder@1", "dataset:rows@1"} <= came_from
    assert list((tmp_path / "ws").rglob("scoring-*")) == []


def test_a_failed_scoring_is_a_failed_run_and_leaves_nothing(ws: Workspace, tmp_path: Path) -> None:
    ws.models.register("adder", adding_bundle(1.0, tmp_path / "bundle"))
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,x\n" + "".join(f"{n},{n}\n" for n in range(20)) + "20,\n")
    with pytest.raises(Invalid, match="row 20"):
        ws.scoring.predict("model:adder", source, output, ScoringOptions(part_rows=5))
    [failed] = ws.runs.search("", experiment="scoring")
    assert failed.status is RunStatus.FAILED
    assert "row 20" in failed.error
    assert list(tmp_path.glob("*out.csv*")) == []
    report = ws.scoring.predict("model:adder@1", source, output, ScoringOptions(part_rows=5, skip_bad=True))
    assert (report.rows, report.bad_rows) == (21, 1)
    assert [run.status for run in ws.runs.search("", experiment="scoring")] == [RunStatus.FINISHED, RunStatus.FAILED]


def test_said_again_it_goes_on_in_the_same_run(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws.models.register("adder", adding_bundle(1.0, tmp_path / "bundle"))
    source, output, options = tmp_path / "in.parquet", tmp_path / "out", ScoringOptions(part_rows=5)
    pl.DataFrame({"id": range(20), "x": [float(n) for n in range(20)]}).write_parquet(source)
    with monkeypatch.context() as patch:
        patch.setattr("loopwright.serve.batch.scoring.publish", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            ws.scoring.predict("model:adder@1", source, output, options)
    report = ws.scoring.predict("model:adder@1", source, output, options)
    assert report.resumed_rows == 20
    [run] = ws.runs.search("", experiment="scoring")
    assert (run.id, run.status, run.error) == (report.run, RunStatus.FINISHED, "")
