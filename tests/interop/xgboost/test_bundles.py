"""XGBoost's models become graphs that answer the same, from its classes, its boosters and its own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.datasets import load_breast_cancer, load_iris
from tests.models.conftest import make_trips, mixed_pipeline

from loopwright.core import Invalid
from loopwright.models import Task, build_bundle, predict_frame

X, Y = load_breast_cancer(return_X_y=True)
FLOWERS, KINDS = load_iris(return_X_y=True)
ROWS = pl.DataFrame(X, schema=[f"f{place}" for place in range(X.shape[1])])
FLOWER_ROWS = pl.DataFrame(FLOWERS, schema=["a", "b", "c", "d"])
HOLED = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)


def booster(objective: str, **more: Any) -> xgb.Booster:
    multi = objective.startswith("multi")
    data = xgb.DMatrix(FLOWERS, KINDS) if multi else xgb.DMatrix(X, Y if "logistic" in objective else X[:, 0])
    params = {"objective": objective, "max_depth": 4, "nthread": 1, **({"num_class": 3} if multi else {}), **more}
    params |= {"quantile_alpha": 0.9} if "quantile" in objective else {}
    return xgb.train(params, data, 20)


@pytest.mark.parametrize(
    ("objective", "task"),
    [
        ("binary:logistic", Task.BINARY),
        ("multi:softprob", Task.MULTICLASS),
        ("multi:softmax", Task.MULTICLASS),
        ("reg:squarederror", Task.REGRESSION),
        ("reg:absoluteerror", Task.REGRESSION),
        ("reg:quantileerror", Task.REGRESSION),
        ("reg:gamma", Task.REGRESSION),
        ("reg:tweedie", Task.REGRESSION),
        ("count:poisson", Task.REGRESSION),
    ],
)
def test_a_booster_of_each_objective(objective: str, task: Task) -> None:
    made = build_bundle(booster(objective), FLOWER_ROWS if objective.startswith("multi") else ROWS)
    assert made.manifest.format == "onnx/xgboost"
    assert made.manifest.task is task
    assert made.manifest.parity.edge_rows == 0
    assert made.manifest.parity.max_rel < 1e-4


@pytest.mark.parametrize("kind", ["dart", "gblinear"])
def test_other_boosters_than_trees_added_up(kind: str) -> None:
    scaled = X / X.max(axis=0)
    more = {"rate_drop": 0.3} if kind == "dart" else {}
    params = {"objective": "binary:logistic", "booster": kind, "nthread": 1, **more}
    made = build_bundle(xgb.train(params, xgb.DMatrix(scaled, Y), 20), pl.DataFrame(scaled, schema=ROWS.schema))
    assert made.manifest.parity.max_abs < 1e-5


def test_early_stopping_and_missing_values_are_kept() -> None:
    model = xgb.XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1)
    model.fit(HOLED[100:], Y[100:], eval_set=[(HOLED[:100], Y[:100])], verbose=False)
    assert model.best_iteration < 59
    rows = pl.DataFrame(HOLED, schema=ROWS.schema).fill_nan(None)
    made = build_bundle(model, rows)
    given = predict_frame(made.predictor(), rows)
    np.testing.assert_allclose(given["probability"], model.predict_proba(HOLED)[:, 1], atol=1e-5)
    assert (given["label"].to_numpy() == model.predict(HOLED)).all()


@pytest.mark.parametrize("kind", [xgb.XGBRFClassifier, xgb.XGBClassifier])
def test_forests_and_several_classes(kind: Any) -> None:
    made = build_bundle(kind(n_estimators=10, n_jobs=1).fit(FLOWERS, KINDS), FLOWER_ROWS)
    assert made.manifest.classes == (0, 1, 2)
    assert made.manifest.parity.max_abs < 1e-5


@pytest.mark.parametrize("ending", ["ubj", "json"])
def test_its_own_files_are_opened(ending: str, tmp_path: Path) -> None:
    model = booster("binary:logistic")
    model.save_model(tmp_path / f"model.{ending}")
    made = build_bundle(tmp_path / f"model.{ending}", ROWS)
    given = predict_frame(made.predictor(), ROWS)["probability"]
    np.testing.assert_allclose(given, model.predict(xgb.DMatrix(X)), atol=1e-5)


def test_it_stands_behind_scikit_learns_steps() -> None:
    trips = make_trips()
    model = mixed_pipeline(xgb.XGBClassifier(n_estimators=20, n_jobs=1)).fit(trips.rows, trips.late)
    made = build_bundle(model, trips.rows)
    assert made.manifest.parity.cast_agreement > 0.99
    fresh = make_trips(500, seed=9).rows
    off = np.abs(predict_frame(made.predictor(), fresh)["probability"] - model.predict_proba(fresh)[:, 1])
    assert (off > 1e-4).mean() < 0.02


def test_what_has_no_onnx_form_is_refused_with_its_reason() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0] * 10, "c": [0.0, 1.0, 2.0, 1.0] * 10})
    data = xgb.DMatrix(frame.to_numpy(), [0, 1, 0, 1] * 10, feature_types=["q", "c"], enable_categorical=True)
    categories = xgb.train({"objective": "binary:logistic", "max_cat_to_onehot": 9}, data, 5)
    with pytest.raises(Invalid, match="splits on categories"):
        build_bundle(categories, frame)
    with pytest.raises(Invalid, match="'binary:hinge' has no ONNX form"):
        build_bundle(booster("binary:hinge"), ROWS)
    with pytest.raises(Invalid, match="not fitted"):
        build_bundle(xgb.XGBClassifier(), ROWS)
    with pytest.raises(Invalid, match="takes 30 features"):
        build_bundle(booster("binary:logistic"), ROWS.drop("f3"))
    with pytest.raises(Invalid, match="for a missing value"):
        build_bundle(xgb.XGBClassifier(n_estimators=2, missing=-1.0).fit(X, Y), ROWS)
