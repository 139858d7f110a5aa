"""Autologging and evaluation of MLflow's newest client: what libraries log by themselves arrives."""

from __future__ import annotations

from collections.abc import Iterator

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV


@pytest.fixture(autouse=True)
def quiet(uri: str) -> Iterator[None]:
    yield
    mlflow.autolog(disable=True)


@pytest.fixture
def iris() -> tuple[pd.DataFrame, np.ndarray]:
    found = load_iris(as_frame=True)
    return found.data, found.target.to_numpy()


def test_scikit_learn(iris: tuple[pd.DataFrame, np.ndarray]) -> None:
    mlflow.sklearn.autolog()
    with mlflow.start_run() as run:
        RandomForestClassifier(n_estimators=5, random_state=0).fit(*iris)
    found = mlflow.get_run(run.info.run_id)
    assert found.data.params["n_estimators"] == "5"
    assert found.data.metrics["training_accuracy_score"] > 0.9
    assert found.data.tags["estimator_name"] == "RandomForestClassifier"
    assert found.inputs.dataset_inputs


def test_a_search_of_scikit_learn_makes_nested_runs(iris: tuple[pd.DataFrame, np.ndarray]) -> None:
    mlflow.sklearn.autolog(log_models=False)
    with mlflow.start_run() as run:
        GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0, 10.0]}, cv=3).fit(*iris)
    children = mlflow.search_runs(["0"], filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert set(children["params.C"]) == {"0.1", "1.0", "10.0"}
    assert mlflow.get_run(run.info.run_id).data.params["best_C"] in ("0.1", "1.0", "10.0")


def test_lightgbm(iris: tuple[pd.DataFrame, np.ndarray]) -> None:
    mlflow.lightgbm.autolog()
    rows, labels = iris
    data = lightgbm.Dataset(rows, labels)
    with mlflow.start_run() as run:
        settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1}
        lightgbm.train(settings, data, num_boost_round=7, valid_sets=[data], valid_names=["train"])
    found = mlflow.get_run(run.info.run_id)
    assert found.data.params["num_boost_round"] == "7"
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train-multi_logloss")
    assert [point.step for point in history] == list(range(7))


def test_xgboost(iris: tuple[pd.DataFrame, np.ndarray]) -> None:
    mlflow.xgboost.autolog()
    rows, labels = iris
    data = xgboost.DMatrix(rows, labels)
    with mlflow.start_run() as run:
        settings = {"objective": "multi:softprob", "num_class": 3}
        xgboost.train(settings, data, num_boost_round=7, evals=[(data, "train")])
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train-mlogloss")
    assert [point.step for point in history] == list(range(7))


def test_evaluate_logs_its_metrics(iris: tuple[pd.DataFrame, np.ndarray]) -> None:
    rows, labels = iris
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    data = rows.assign(label=labels, guess=model.predict(rows))
    with mlflow.start_run() as run:
        mlflow.models.evaluate(
            data=data, targets="label", predictions="guess", model_type="classifier", evaluators=["default"]
        )
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    assert metrics["accuracy_score"] > 0.9
