"""XGBoost's trainings record themselves."""

from __future__ import annotations

import inspect
import io
import pickle
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.model_selection import GridSearchCV

import loopwright as lw
from loopwright.track import Run
from loopwright.workspace import Workspace

Runs = Callable[[], list[Run]]
Autolog = Callable[..., None]
X, Y = load_breast_cancer(return_X_y=True)
PARAMS = {"objective": "binary:logistic", "eval_metric": ["auc", "logloss"], "max_depth": 3, "nthread": 1}


def train(rounds: int = 20, **more: object) -> xgb.Booster:
    data, held = xgb.DMatrix(X[:400], Y[:400]), xgb.DMatrix(X[400:], Y[400:])
    return xgb.train(PARAMS, data, rounds, evals=[(data, "train"), (held, "held")], verbose_eval=False, **more)


def test_train_leaves_params_curves_importances_and_the_model_without_code(
    autolog: Autolog, runs: Runs, ws: Workspace
) -> None:
    plain = train()
    autolog()
    seen: dict[str, dict[str, list[float]]] = {}
    model = train(evals_result=seen)
    assert model.save_raw("json") == plain.save_raw("json")
    [run] = runs()
    assert (run.name, run.status, run.tags["loopwright.autolog"]) == ("xgboost.train", "finished", "xgboost")
    assert (run.params["max_depth"], run.params["num_boost_round"], run.params["training_rows"]) == ("3", "20", "400")
    for data in ("train", "held"):
        for metric in ("auc", "logloss"):
            history = ws.runs.history(run.id, f"{data}-{metric}")
            assert (history.steps, history.values) == (list(range(20)), seen[data][metric])
    table = pl.read_parquet(io.BytesIO(ws.runs.artifact(run.id, "feature_importance.parquet")))
    gains = {name: gain for name, gain in zip(table["feature"], table["gain"], strict=True) if gain}
    assert gains == model.get_score(importance_type="gain")
    kept = xgb.Booster()
    kept.load_model(bytearray(ws.runs.artifact(run.id, "model/xgboost.ubj")))
    np.testing.assert_array_equal(kept.predict(xgb.DMatrix(X)), model.predict(xgb.DMatrix(X)))


def test_early_stopping_works_as_ever_and_curves_are_thinned(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog(log_models=False, log_every_n_steps=7)
    model = train(300, early_stopping_rounds=4)
    [run] = runs()
    assert run.metrics["best_iteration"] == model.best_iteration < 299
    assert run.metrics["best_score"] == pytest.approx(model.best_score)
    steps = ws.runs.history(run.id, "held-auc").steps
    last = model.num_boosted_rounds() - 1
    assert steps == sorted({*range(0, last + 1, 7), last})


def test_a_cross_validation_leaves_means_and_deviations(autolog: Autolog, runs: Runs, ws: Workspace) -> None:
    autolog()
    found = xgb.cv(PARAMS, xgb.DMatrix(X, Y), 8, nfold=3, seed=1, as_pandas=False)
    [run] = runs()
    assert ws.runs.history(run.id, "test-auc").values == found["test-auc-mean"]
    assert ws.runs.history(run.id, "test-auc-stdv").values == found["test-auc-std"]


@pytest.mark.parametrize("kind", ["XGBClassifier", "XGBRegressor", "XGBRFClassifier"])
def test_a_class_for_sklearn_is_one_run_with_scores_and_curves(
    autolog: Autolog, runs: Runs, ws: Workspace, kind: str
) -> None:
    autolog()
    model = getattr(xgb, kind)(n_estimators=9, max_depth=2, n_jobs=1)
    model.fit(X, Y, eval_set=[(X[:100], Y[:100])], verbose=False)
    assert model.callbacks is None
    [run] = runs()
    assert (run.name, run.params["max_depth"]) == (kind, "2")
    assert run.metrics["training_score"] == pytest.approx(model.score(X, Y))
    [curve] = [key for key in run.metrics if key.startswith("validation_0-")]
    [values] = model.evals_result()["validation_0"].values()
    assert ws.runs.history(run.id, curve).values == values
    assert run.tags["loopwright.autolog.model"] == "model/xgboost.ubj"
    assert pickle.loads(pickle.dumps(model)).score(X, Y) == model.score(X, Y)


def test_a_linear_booster_of_three_classes_and_a_search_are_recorded(autolog: Autolog, runs: Runs) -> None:
    autolog()
    inputs, truth = load_iris(return_X_y=True)
    xgb.XGBClassifier(booster="gblinear", n_estimators=3).fit(inputs, truth)
    GridSearchCV(xgb.XGBClassifier(n_estimators=2), {"max_depth": [1, 2]}, cv=2).fit(inputs, truth)
    assert [run.name for run in runs() if not run.parent] == ["XGBClassifier", "GridSearchCV"]


def test_switching_off_puts_everything_back(autolog: Autolog, runs: Runs) -> None:
    from xgboost import sklearn as classes
    from xgboost import training

    before = [xgb.train, training.train, classes.train, xgb.cv, vars(xgb.XGBClassifier)["fit"]]
    autolog()
    assert xgb.train is training.train is classes.train is not before[0]
    assert str(inspect.signature(xgb.train)) == str(inspect.signature(before[0]))
    lw.autolog(disable=True)
    assert [xgb.train, training.train, classes.train, xgb.cv, vars(xgb.XGBClassifier)["fit"]] == before
    train(2)
    assert runs() == []


def test_an_error_of_the_training_is_the_programs(autolog: Autolog, runs: Runs) -> None:
    autolog()
    with pytest.raises(xgb.core.XGBoostError, match="Unknown objective"):
        xgb.train({"objective": "none"}, xgb.DMatrix(X, Y), 2)
    assert [run.status for run in runs()] == ["failed"]
