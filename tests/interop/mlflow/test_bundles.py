"""Folders that MLflow's own client saved become bundles: graphs where that runs no code, else only when asked for."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.linear_model import LogisticRegression
from tests.models.conftest import make_trips, small_lightgbm

from loopwright.core import Invalid
from loopwright.models import Runner, Task, build_bundle, predict_frame

TRIPS = make_trips(400)
ROWS = TRIPS.numbers.with_columns(pl.col("wind").fill_null(0.0)).cast(pl.Float64)
FRAME = ROWS.to_pandas()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """MLflow warns of many things when it saves."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def linear() -> LogisticRegression:
    return LogisticRegression(max_iter=500).fit(FRAME, TRIPS.late)


def chance(made: Any) -> np.ndarray[Any, Any]:
    return predict_frame(made.predictor(), ROWS)["probability"].to_numpy()


def test_scikit_learn_by_skops(linear: LogisticRegression, tmp_path: Path) -> None:
    mlflow.sklearn.save_model(linear, str(tmp_path / "m"), serialization_format="skops")
    made = build_bundle(tmp_path / "m", ROWS)
    assert made.manifest.format == "onnx/sklearn"
    np.testing.assert_allclose(chance(made), linear.predict_proba(FRAME)[:, 1], atol=1e-5)


def test_scikit_learn_by_pickle_becomes_a_graph_in_a_confined_process(
    linear: LogisticRegression, tmp_path: Path
) -> None:
    mlflow.sklearn.save_model(linear, str(tmp_path / "m"), serialization_format="cloudpickle")
    with pytest.raises(Invalid, match="none of them can be opened without running code"):
        build_bundle(tmp_path / "m", ROWS)
    made = build_bundle(tmp_path / "m", ROWS, allow_pickle=True)
    assert not made.manifest.executes_code
    np.testing.assert_allclose(chance(made), linear.predict_proba(FRAME)[:, 1], atol=1e-5)


def test_a_pickle_is_kept_and_answered_by_a_worker_when_both_are_allowed(
    linear: LogisticRegression, tmp_path: Path
) -> None:
    mlflow.sklearn.save_model(linear, str(tmp_path / "m"), serialization_format="cloudpickle")
    made = build_bundle(tmp_path / "m", ROWS, allow_pickle=True, allow_code=True)
    assert made.manifest.code is not None
    assert (made.manifest.code.runner, made.manifest.task) == (Runner.PICKLE, Task.BINARY)
    with made.predictor() as predictor:
        given = predict_frame(predictor, ROWS)["probability"]
    np.testing.assert_allclose(given, linear.predict_proba(FRAME)[:, 1], atol=1e-9)


@pytest.mark.parametrize("kind", ["booster", "classifier"])
def test_lightgbm(kind: str, tmp_path: Path) -> None:
    params = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(params, lightgbm.Dataset(FRAME, TRIPS.late), 5)
    model = booster if kind == "booster" else small_lightgbm().fit(FRAME, TRIPS.late)
    mlflow.lightgbm.save_model(model, str(tmp_path / "m"))
    made = build_bundle(tmp_path / "m", ROWS)
    expected = booster.predict(FRAME) if kind == "booster" else model.predict_proba(FRAME)[:, 1]
    np.testing.assert_allclose(chance(made), expected, atol=1e-5)


def test_xgboost(tmp_path: Path) -> None:
    data = xgb.DMatrix(FRAME, TRIPS.late)
    model = xgb.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    mlflow.xgboost.save_model(model, str(tmp_path / "m"))
    made = build_bundle(tmp_path / "m", ROWS)
    assert made.manifest.format == "onnx/xgboost"
    np.testing.assert_allclose(chance(made), model.predict(data), atol=1e-5)


def test_onnx(linear: LogisticRegression, tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(build_bundle(linear, ROWS).folder / "model.onnx")
    mlflow.onnx.save_model(graph, str(tmp_path / "m"))
    made = build_bundle(tmp_path / "m", ROWS)
    assert made.manifest.format == "onnx/onnx"
    np.testing.assert_allclose(chance(made), linear.predict_proba(FRAME)[:, 1], atol=1e-5)


def test_a_pyfunc_is_python_and_run_by_a_worker_only_when_asked_for(tmp_path: Path) -> None:
    class Sums(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input.sum(axis=1).to_numpy()

    mlflow.pyfunc.save_model(str(tmp_path / "m"), python_model=Sums())
    with pytest.raises(Invalid, match="none of them can be opened"):
        build_bundle(tmp_path / "m", ROWS)
    with pytest.raises(Invalid, match="is a pickle"):
        build_bundle(tmp_path / "m", ROWS, allow_code=True)
    made = build_bundle(tmp_path / "m", ROWS, allow_code=True, allow_pickle=True)
    assert made.manifest.code is not None
    assert made.manifest.code.runner is Runner.MLFLOW
    with made.predictor() as predictor:
        np.testing.assert_allclose(predict_frame(predictor, ROWS)["value"], ROWS.to_numpy().sum(axis=1))


def test_a_description_that_is_damaged_or_climbs_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: [", encoding="utf-8")
    with pytest.raises(Invalid, match="no description of a model"):
        build_bundle(tmp_path, ROWS)
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: ../../etc/passwd}}", encoding="utf-8")
    with pytest.raises(Invalid, match="not a safe relative path"):
        build_bundle(tmp_path, ROWS)
