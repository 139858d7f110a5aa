"""CatBoost's models become graphs that answer the same, where CatBoost has an ONNX form for them."""

from __future__ import annotations

from pathlib import Path

import catboost
import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from tests.interop.catboost.with_categories import WithCategories
from tests.models.conftest import make_trips, mixed_pipeline

from loopwright.core import Invalid
from loopwright.models import Task, build_bundle, predict_frame

X, Y = load_breast_cancer(return_X_y=True)
FLOWERS, KINDS = load_iris(return_X_y=True)
ROWS = pl.DataFrame(X, schema=[f"f{place}" for place in range(X.shape[1])])
SMALL = {"iterations": 30, "depth": 4, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
MIXED = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0] * 10, "carrier": ["AA", "UA", "AA", "UA"] * 10})


def test_a_binary_classifier_with_text_labels() -> None:
    model = catboost.CatBoostClassifier(**SMALL).fit(X, np.where(Y == 1, "benign", "malignant"))
    made = build_bundle(model, ROWS)
    assert made.manifest.format == "onnx/catboost"
    assert made.manifest.classes == ("benign", "malignant")
    assert made.manifest.parity.label_agreement == 1.0
    given = predict_frame(made.predictor(), ROWS)
    np.testing.assert_allclose(given["probability"], model.predict_proba(X)[:, 1], atol=1e-5)


def test_several_classes_and_regression() -> None:
    flowers = pl.DataFrame(FLOWERS, schema=["a", "b", "c", "d"])
    several = build_bundle(catboost.CatBoostClassifier(**SMALL).fit(FLOWERS, KINDS), flowers)
    assert (several.manifest.task, several.manifest.classes) == (Task.MULTICLASS, (0, 1, 2))
    assert several.manifest.parity.max_abs < 1e-5
    number = build_bundle(catboost.CatBoostRegressor(**SMALL).fit(X, X[:, 0]), ROWS)
    assert number.manifest.task is Task.REGRESSION
    assert number.manifest.parity.max_rel < 1e-4


@pytest.mark.parametrize("loss", ["Poisson", "Tweedie:variance_power=1.5", "Quantile:alpha=0.9"])
def test_a_regressor_answers_on_the_scale_of_its_target(loss: str, tmp_path: Path) -> None:
    model = catboost.CatBoostRegressor(loss_function=loss, **SMALL).fit(X, X[:, 0])
    model.save_model(str(tmp_path / "model.cbm"))
    for given in (model, tmp_path / "model.cbm"):
        answers = predict_frame(build_bundle(given, ROWS).predictor(), ROWS)["value"]
        np.testing.assert_allclose(answers, model.predict(X), rtol=1e-4)


def test_missing_numbers_are_kept() -> None:
    holed = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    rows = pl.DataFrame(holed, schema=ROWS.schema).fill_nan(None)
    model = catboost.CatBoostClassifier(**SMALL).fit(holed, Y)
    given = predict_frame(build_bundle(model, rows).predictor(), rows)["probability"]
    np.testing.assert_allclose(given, model.predict_proba(holed)[:, 1], atol=1e-5)


def test_its_own_file_is_opened(tmp_path: Path) -> None:
    model = catboost.CatBoostClassifier(**SMALL).fit(X, Y)
    model.save_model(str(tmp_path / "model.cbm"))
    made = build_bundle(tmp_path / "model.cbm", ROWS)
    given = predict_frame(made.predictor(), ROWS)["probability"]
    np.testing.assert_allclose(given, model.predict_proba(X)[:, 1], atol=1e-5)


def test_it_stands_behind_scikit_learns_steps() -> None:
    trips = make_trips()
    model = mixed_pipeline(catboost.CatBoostClassifier(**SMALL)).fit(trips.rows, trips.late)
    made = build_bundle(model, trips.rows)
    assert made.manifest.task is Task.BINARY
    assert made.manifest.parity.max_abs < 1e-5


def test_categories_have_no_onnx_form_and_a_worker_answers_instead(tmp_path: Path) -> None:
    model = catboost.CatBoostClassifier(**SMALL).fit(MIXED.rows(), [0, 1, 0, 1] * 10, cat_features=[1])
    with pytest.raises(Invalid, match="categorical features"):
        build_bundle(model, MIXED)
    model.save_model(str(tmp_path / "model.cbm"))
    made = build_bundle(WithCategories, MIXED, files=tmp_path / "model.cbm", nullable=[])
    assert made.manifest.executes_code
    with made.predictor() as predictor:
        given = predict_frame(predictor, MIXED)
    np.testing.assert_allclose(given["probability"], model.predict_proba(MIXED.rows())[:, 1], atol=1e-9)


def test_a_model_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(Invalid, match="not fitted"):
        build_bundle(catboost.CatBoostClassifier(**SMALL), ROWS)
