"""LightGBM's trainings record themselves."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import loopwright as lw
from loopwright.track import Run
from loopwright.workspace import Workspace

Runs = Callable[[], list[Run]]
Autolog = Callable[..., None]
X, Y = load_breast_cancer(return_X_y=True)
PARAMS = {"objective": "binary", "verbose": -1, "num_threads": 1, "metric": ["auc", "binary_logloss"]}


def train(rounds: int = 30, **more: object) -> lgb.Booster:
    data = lgb.Dataset(X[:400], Y[:400])
    return lgb.train(PARAMS, data, rounds, valid_sets=[lgb.Dataset(X[400:], Y[400:], reference=data)], **more)


def test_train_leaves_params_curves_importances_and_the_model_as_text(
    autolog: Autolog, runs: Runs, ws: Workspace
) -> None:
    autolog()
    seen: dict[str, dict[str, list[float]]] = {}
    callbacks = [lgb.record_evaluation(seen)]
    model = train(callbacks=callbacks)
    assert len(callbacks) == 1
    [run] = runs()
    assert (run.name, run.status, run.tags["loopwright.autolog"]) == ("lightgbm.train", "finished", "lightgbm")
    assert (run.params["objective"], run.params["num_boost_round"]) == ("binary", "30")
    assert (run.params["training_rows"], run.params["training_columns"]) == ("400", "30")
    for metric in ("auc", "binary_logloss"):
        history = ws.runs.history(run.id, f"valid_0-{metric}")
        assert (history.steps, history.values) == (list(range(30)), seen["valid_0"][metric])
    table = pl.read_parquet(io.BytesIO(ws.runs.artifact(run.id, "feature_importance.parquet")))
    gains = dict(zip(model.feature_name(), model.feature_importance("gain"), strict=True))
    assert dict(zip(table["feature"], table["gain"], strict=True)) == gains
    assert table["gain"].is_sorted(descending=True)
    kept = lgb.Booster(model_str=ws.runs.artifact(run.id, "model/lightgbm.txt").decode())
    np.testing.assert_array_equal(kept.predict(X), model.predict(X))


def test_early_stopping_works_as_ever_and_its_best_is_kept(autolog: Autolog, runs: Runs) -> None:
    plain = train(500, callbacks=[lgb.early_stopping(5, verbose=False)])
    autolog(log_models=False)
    model = train(500, callbacks=[lgb.early_stopping(5, verbose=False)])
    assert model.model_to_string() == plain.model_to_string()
    [run] = runs()
    assert run.metrics["best_iteration"] == model.best_iteration < 500
    assert run.metrics["best_valid_0-auc"] == model.best_score["valid_0"]["auc"]


def test_curves_are_thinned_and_end_with_the_last_iteration(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog(log_models=False, log_every_n_steps=10)
    train(25)
    [run] = runs()
    assert ws.runs.history(run.id, "valid_0-auc").steps == [0, 10, 20, 24]


def test_a_cross_validation_leaves_means_and_deviations(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog()
    found = lgb.cv(PARAMS, lgb.Dataset(X, Y), 12, nfold=3, seed=1)
    [run] = runs()
    assert run.name == "lightgbm.cv"
    assert ws.runs.history(run.id, "valid-auc").values == found["valid auc-mean"]
    assert ws.runs.history(run.id, "valid-auc-stdv").values == found["valid auc-stdv"]


def test_a_class_for_sklearn_is_one_run_with_scores_curves_and_a_bundle(
    autolog: Autolog, runs: Runs, ws: Workspace
) -> None:
    autolog()
    model = lgb.LGBMClassifier(n_estimators=15, num_leaves=7, verbose=-1, n_jobs=1)
    model.fit(X, Y, eval_X=X[:100], eval_y=Y[:100])
    [run] = runs()
    assert (run.name, run.tags["loopwright.autolog"]) == ("LGBMClassifier", "lightgbm")
    assert run.params["num_leaves"] == "7"
    assert run.metrics["training_score"] == pytest.approx(model.score(X, Y))
    [curve] = [key for key in run.metrics if "logloss" in key]
    assert ws.runs.history(run.id, curve).values == next(iter(model.evals_result_.values()))["binary_logloss"]
    assert run.tags["loopwright.autolog.model"] == "bundle"
    paths = {item.path for item in ws.runs.artifacts(run.id)}
    assert {"model/model.onnx", "model/lightgbm.txt", "feature_importance.json"} <= paths


def test_in_a_pipeline_it_is_a_part_of_the_pipeline(autolog: Autolog, runs: Runs) -> None:
    autolog(log_models=False)
    make_pipeline(StandardScaler(), lgb.LGBMRegressor(n_estimators=3, verbose=-1)).fit(X, Y)
    assert [run.name for run in runs()] == ["Pipeline"]


def test_switching_off_puts_all_three_names_back(autolog: Autolog, runs: Runs) -> None:
    from lightgbm import engine
    from lightgbm import sklearn as classes

    before = [lgb.train, engine.train, classes.train, lgb.cv, vars(lgb.LGBMModel)["fit"], str(inspect.signature(train))]
    autolog()
    assert lgb.train is engine.train is classes.train is not before[0]
    assert str(inspect.signature(lgb.train)) == str(inspect.signature(before[0]))
    lw.autolog(["lightgbm"], disable=True)
    after = [lgb.train, engine.train, classes.train, lgb.cv, vars(lgb.LGBMModel)["fit"], str(inspect.signature(train))]
    assert after == before
    train(2)
    assert runs() == []


def test_an_error_of_the_training_is_the_programs_and_the_run_has_failed(autolog: Autolog, runs: Runs) -> None:
    autolog()
    with pytest.raises(lgb.basic.LightGBMError, match="objective"):
        lgb.train({**PARAMS, "objective": "none of these"}, lgb.Dataset(X, Y), 2)
    with pytest.raises(TypeError, match="unexpected keyword"):
        lgb.train(PARAMS, lgb.Dataset(X, Y), 2, nonsense=1)
    assert [run.status for run in runs()] == ["failed", "failed"]
