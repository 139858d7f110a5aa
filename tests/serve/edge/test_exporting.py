"""The export as a whole: a folder that keeps to its budget, or none; and what the command line says of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.cli.test_commands import Told, run_here
from tests.serve.edge.conftest import Network

from loopwright.core import Conflict, Invalid, NotFound
from loopwright.models import Bundle
from loopwright.serve import Budget, EdgePlan, EdgeReport, Precision, export_edge
from loopwright.serve.edge.sampling import drawn_rows
from loopwright.serve.edge.standalone import EdgeModel

pytestmark = pytest.mark.slow


def exported(bundle: Bundle, target: Path, plan: EdgePlan) -> EdgeReport:
    return export_edge(bundle, target, plan, ref="model:m@1", digest="ab" * 32)


def written(network: Network, folder: Path) -> Path:
    path = folder / "rows.csv"
    network.rows.with_columns(truth=pl.Series(network.truth)).write_csv(path)
    return path


def edge(*arguments: str | Path) -> Told:
    return run_here("export", "edge", *map(str, arguments))


def test_the_report_compares_measures_and_lies_in_the_folder(network: Network, tmp_path: Path) -> None:
    plan = EdgePlan(
        precision=Precision.INT8, rows=written(network, tmp_path), target="truth", budget=Budget(1.0, 500.0)
    )
    report = exported(network.bundle, tmp_path / "out", plan)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bundle.json",
        "bundle.py",
        "model.onnx",
        "report.json",
    ]
    kept = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert kept["comparison"]["rows"] == 600
    assert report.passed
    assert report.applied == "int8 (dynamic)"
    assert 0 < report.comparison.max_abs < 0.2  # it is another graph, and near
    assert report.accuracy is not None
    own = network.bundle.predictor().predict({name: network.rows[name].to_numpy() for name in network.rows.columns})
    assert report.accuracy.own == pytest.approx(float(np.mean(own["label"] == network.truth)))
    assert report.accuracy.exported == pytest.approx(report.accuracy.own, abs=0.02)
    assert [verdict.kept for verdict in report.verdicts] == [True, True, True]
    assert report.bytes_after == (tmp_path / "out" / "model.onnx").stat().st_size < report.bytes_before


@pytest.mark.parametrize("precision", list(Precision))
def test_a_regressor_keeps_its_numbers_within_what_the_report_says(
    regressor: Network, precision: Precision, tmp_path: Path
) -> None:
    plan = EdgePlan(precision=precision, rows=written(regressor, tmp_path), budget=Budget(min_agreement=0.0))
    report = exported(regressor.bundle, tmp_path / "out", plan)
    columns = {name: regressor.rows[name].to_numpy() for name in regressor.rows.columns}
    own, found = regressor.bundle.predictor().predict(columns), EdgeModel(tmp_path / "out").predict(columns)
    gap = np.abs(own["value"].astype(np.float64) - found["value"])
    assert report.comparison.max_abs == pytest.approx(float(gap.max()))
    assert report.comparison.worst_row == int(gap.argmax())
    assert report.applied.startswith(precision.value)


@pytest.mark.parametrize("budget", [Budget(max_mb=0.001), Budget(max_ms=0.000001)])
def test_a_missed_budget_leaves_the_report_and_nothing_else(network: Network, budget: Budget, tmp_path: Path) -> None:
    report = exported(network.bundle, tmp_path / "out", EdgePlan(budget=budget))
    assert not report.passed
    assert [path.name for path in tmp_path.iterdir()] == ["out.report.json"]
    kept = json.loads((tmp_path / "out.report.json").read_bytes())
    assert kept["passed"] is False
    assert [verdict["kept"] for verdict in kept["verdicts"]] == [True, False]


def test_too_little_agreement_fails_the_export(regressor: Network, tmp_path: Path) -> None:
    plan = EdgePlan(precision=Precision.INT8, tolerance=1e-7, budget=Budget(min_agreement=0.9))
    assert not exported(regressor.bundle, tmp_path / "out", plan).passed
    assert not (tmp_path / "out").exists()


def test_refusals_leave_nothing(network: Network, bundle: Bundle, tmp_path: Path) -> None:
    rows = written(network, tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(Conflict, match="there already"):
        exported(network.bundle, tmp_path / "there", EdgePlan())
    with pytest.raises(Invalid, match="lack the column"):
        exported(bundle, tmp_path / "out", EdgePlan(rows=rows))
    with pytest.raises(Invalid, match="late"):
        exported(network.bundle, tmp_path / "out", EdgePlan(rows=rows, target="late"))
    with pytest.raises(Invalid, match="--rows"):
        exported(network.bundle, tmp_path / "out", EdgePlan(target="truth"))
    with pytest.raises(Invalid, match="int8"):
        exported(network.bundle, tmp_path / "out", EdgePlan(calibration=rows))
    with pytest.raises(NotFound, match="npm package"):
        exported(network.bundle, tmp_path / "out", EdgePlan(web=tmp_path))
    with pytest.raises(NotFound):
        exported(network.bundle, tmp_path / "out", EdgePlan(rows=tmp_path / "none.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "there"]


def test_rows_with_a_missing_value_that_training_never_saw_are_refused(network: Network, tmp_path: Path) -> None:
    rows = network.rows.with_columns(f3=pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("f3")))
    rows.write_csv(tmp_path / "rows.csv")
    with pytest.raises(Invalid, match="column 'f3', row 7"):
        exported(network.bundle, tmp_path / "out", EdgePlan(rows=tmp_path / "rows.csv"))


def test_drawn_rows_are_like_those_of_training(bundle: Bundle) -> None:
    rows = drawn_rows(bundle)
    assert rows.equals(drawn_rows(bundle))
    assert list(rows.row(0)) == bundle.example_row()
    assert rows["hour"].dtype == pl.Int64
    assert rows["hour"].min() == 0
    assert rows["hour"].max() == 23
    assert 0.1 < rows["wind"].null_count() / rows.height < 0.2  # 15 % in training
    assert 0.3 < (rows["carrier"] == "AA").mean() < 0.5  # 40 % in training
    assert 600 < float(rows["distance"].median()) < 800  # normal around 700


def test_the_command_tells_what_it_did_and_its_exit_code_judges(
    network: Network, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOOPWRIGHT_WORKSPACE", raising=False)
    shutil.copytree(bundle.folder, "trips")
    assert run_here("models", "import", str(network.bundle.folder), "--name", "net").code == 0
    done = edge("net", "out", "--precision", "int8", "--json")
    assert done.code == 0, done.err
    assert done.json()["model"] == "model:net@1"
    assert done.json()["applied"] == "int8 (dynamic)"
    told = edge("trips", "trees", "--precision", "int8", "--max-mb", "1")
    assert told.code == 0, told.err
    assert "kept as it is" in told.out
    assert "TreeEnsembleClassifier" in told.out
    missed = edge("model:net@1", "small", "--max-mb", "0.01")
    assert missed.code == 1
    assert "MISSED: size of the graph" in missed.out
    assert not Path("small").exists()
    assert edge("net", "out").code == 3
    assert edge("nobody", "none").code == 3
    assert edge("net", "x", "--precision", "int4").code == 2
