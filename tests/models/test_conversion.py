"""Trained models become bundles that answer the same, or are refused."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from tests.models.conftest import Trips, mixed_pipeline, small_lightgbm

from loopwright.core import DType, Invalid
from loopwright.models import Layout, Task, build_bundle, predict_frame
from loopwright.models.formats.lightgbm import round_down, with_float32_splits


def test_lightgbm_in_a_pipeline_answers_as_the_original_on_rows_it_has_not_seen(fitted: Any, bundle: Any) -> None:
    from tests.models.conftest import make_trips

    fresh = make_trips(800, seed=99).rows
    answers = predict_frame(bundle.predictor(), fresh)
    np.testing.assert_allclose(answers["probability"], fitted.predict_proba(fresh)[:, 1], atol=1e-5)
    assert (answers["label"].to_numpy() == fitted.predict(fresh)).all()
    assert bundle.manifest.task is Task.BINARY
    assert bundle.manifest.classes == (0, 1)


def test_an_unknown_category_is_answered_as_by_the_original(fitted: Any, bundle: Any, trips: Trips) -> None:
    rows = trips.rows.head(50).with_columns(carrier=pl.lit("ZZ"))
    answers = predict_frame(bundle.predictor(), rows)
    np.testing.assert_allclose(answers["probability"], fitted.predict_proba(rows)[:, 1], atol=1e-5)


def test_a_missing_number_reaches_lightgbm_as_missing(fitted: Any, bundle: Any, trips: Trips) -> None:
    rows = trips.rows.head(200).with_columns(wind=pl.lit(None, pl.Float64))
    answers = predict_frame(bundle.predictor(), rows)
    np.testing.assert_allclose(answers["probability"], fitted.predict_proba(rows)[:, 1], atol=1e-5)


def test_a_number_declared_nullable_follows_lightgbm_though_training_never_missed_it(trips: Trips) -> None:
    rows = trips.numbers.with_columns(pl.col("wind").fill_null(0.0))
    model = small_lightgbm().fit(rows.to_numpy().astype(float), trips.late)
    made = build_bundle(model, rows, nullable=["distance", "value"])
    holed = rows.with_columns(distance=pl.lit(None, pl.Float64), value=pl.lit(None, pl.Float64))
    expected = model.predict_proba(holed.cast(pl.Float64).to_numpy())[:, 1]
    np.testing.assert_allclose(predict_frame(made.predictor(), holed)["probability"], expected, atol=1e-5)
    assert [item.name for item in made.signature.inputs if item.nullable] == ["distance", "value"]


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (small_lightgbm(), Task.BINARY),
        (RandomForestClassifier(20, random_state=0), Task.BINARY),
        (HistGradientBoostingClassifier(max_iter=20), Task.BINARY),
        (make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), Task.BINARY),
    ],
    ids=["lightgbm", "forest", "histogram boosting", "logistic"],
)
def test_numeric_models_take_one_matrix(model: Any, task: Task, trips: Trips) -> None:
    rows = trips.numbers.with_columns(pl.col("wind").fill_null(0.0))
    made = build_bundle(model.fit(rows.to_numpy().astype(float), trips.late), rows)
    assert made.manifest.layout is Layout.MATRIX
    assert made.manifest.task is task
    assert made.manifest.parity.max_abs < 1e-5


def test_string_labels_and_several_classes_keep_their_names(trips: Trips) -> None:
    names = np.array(["early", "fine", "late"])[np.digitize(trips.rows["value"].to_numpy(), [-0.5, 0.5])]
    made = build_bundle(mixed_pipeline(small_lightgbm()).fit(trips.rows, names), trips.rows)
    answers = predict_frame(made.predictor(), trips.rows)
    assert made.manifest.classes == ("early", "fine", "late")
    assert made.signature.outputs[1].shape == (3,)
    assert np.mean(answers["label"].to_numpy() == names) > 0.9
    np.testing.assert_allclose(np.array(answers["probabilities"].to_list()).sum(axis=1), 1.0, atol=1e-5)


def test_regression_gives_one_value(trips: Trips) -> None:
    rows = trips.numbers
    goal = rows["distance"].to_numpy() * 3 + 1000
    made = build_bundle(lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(rows.to_numpy(), goal), rows)
    assert [(item.name, item.dtype) for item in made.signature.outputs] == [("value", DType.FLOAT32)]
    assert made.manifest.task is Task.REGRESSION


def test_a_conversion_that_changes_answers_is_refused_with_its_worst_row(trips: Trips) -> None:
    holed = trips.rows.with_columns(carrier=pl.when(pl.col("carrier") == "B6").then(None).otherwise(pl.col("carrier")))
    model = mixed_pipeline(small_lightgbm()).fit(holed, trips.late)
    with pytest.raises(Invalid, match="not the original") as caught:
        build_bundle(model, holed)
    assert "carrier=None" in str(caught.value)
    assert "original gives" in str(caught.value)


@pytest.mark.parametrize("tolerance", [float("nan"), float("inf"), -1e-4, 1.0])
def test_a_tolerance_that_would_prove_nothing_is_refused(tolerance: float, trips: Trips) -> None:
    rows = trips.numbers.fill_null(0)
    with pytest.raises(Invalid, match="proves nothing"):
        build_bundle(LinearRegression().fit(rows.to_numpy(), trips.late), rows, tolerance=tolerance)


def test_histogram_boosting_behind_a_scaler_keeps_rows_that_stand_on_its_splits(trips: Trips) -> None:
    """Its splits are values of the training data: float32 alone moved one row in ten across them."""
    rng = np.random.default_rng(3)
    rows = pl.DataFrame({"mass": rng.normal(1000, 10, 1500), "rate": rng.exponential(1, 1500)})
    goal = (rows["mass"].to_numpy() - 1000) / 10 + rows["rate"].to_numpy() + rng.normal(size=1500) * 0.3
    model = make_pipeline(StandardScaler(), HistGradientBoostingRegressor()).fit(rows.to_numpy(), goal)
    made = build_bundle(model, rows)
    assert made.manifest.parity.cast_agreement > 0.995
    answers = predict_frame(made.predictor(), rows)["value"].to_numpy()
    assert np.isclose(answers, model.predict(rows.to_numpy()), rtol=1e-4, atol=1e-4).mean() > 0.995


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression"])
def test_a_forest_of_lightgbm_answers_with_the_mean_of_its_trees(objective: str, trips: Trips) -> None:
    forest = {"objective": objective, "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "verbose": -1}
    forest |= {"num_class": 3} if objective == "multiclass" else {}
    rows, goal = trips.numbers, trips.late + (trips.late & (trips.rows["hour"].to_numpy() > 18)) * 1
    goal = trips.late if objective == "binary" else goal
    booster = lightgbm.train(forest, lightgbm.Dataset(rows.cast(pl.Float64).to_numpy(), goal), 7)
    assert build_bundle(booster, rows).manifest.parity.passed
    if objective == "binary":
        kind = lightgbm.LGBMClassifier(boosting_type="rf", bagging_freq=1, subsample=0.5, n_estimators=7, verbose=-1)
        assert build_bundle(kind.fit(rows.cast(pl.Float64).to_numpy(), goal), rows).manifest.parity.passed


def test_what_a_model_cannot_become_is_said_in_its_own_words(trips: Trips) -> None:
    rows = trips.numbers.fill_null(0)
    matrix = rows.cast(pl.Float64).to_numpy()
    linear = lightgbm.LGBMRegressor(n_estimators=3, linear_tree=True, verbose=-1).fit(matrix, matrix[:, 0])
    refused = {
        "several targets at once": LinearRegression().fit(matrix, matrix[:, :2]),
        "linear models in their leaves": linear,
        r"takes 2 columns \(in the order": LinearRegression().fit(matrix[:, :2], trips.late),
        "neither a classifier nor a regressor": StandardScaler().fit(matrix),
    }
    for message, model in refused.items():
        with pytest.raises(Invalid, match=message):
            build_bundle(model, rows)


def test_a_vote_and_a_discretizer_at_their_usual_parameters_become_graphs_and_stay_as_they_were(trips: Trips) -> None:
    rows = trips.numbers.fill_null(0)
    vote = VotingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=2))], voting="soft")
    bins = KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf")
    model = make_pipeline(bins, vote).fit(rows.cast(pl.Float64).to_numpy(), trips.late)
    assert build_bundle(model, rows).manifest.parity.passed
    assert (vote.flatten_transform, bins.encode) == (True, "onehot")


def test_a_model_that_is_not_fitted_is_refused(trips: Trips) -> None:
    with pytest.raises(Invalid, match="not fitted"):
        build_bundle(LogisticRegression(), trips.numbers)


def test_what_no_format_takes_is_refused_by_name(trips: Trips) -> None:
    with pytest.raises(Invalid, match=r"builtins\.dict"):
        build_bundle({"weights": [1]}, trips.numbers)


def test_a_column_that_no_model_takes_is_refused_by_name(trips: Trips) -> None:
    rows = trips.numbers.with_columns(when=pl.lit("2013-01-01").str.to_date())
    with pytest.raises(Invalid, match="'when' has type Date"):
        build_bundle(LinearRegression().fit(trips.numbers.fill_null(0).to_numpy(), trips.late), rows)


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=50))
def test_rounding_a_threshold_down_never_moves_a_float32_value_across_it(values: list[float]) -> None:
    thresholds = np.array(values)
    rounded = round_down(thresholds)
    assert (rounded <= thresholds).all()
    around = np.concatenate([rounded, np.nextafter(rounded.astype(np.float32), np.float32(np.inf)).astype(float)])
    for value in np.concatenate([around, np.float32(thresholds).astype(float)]):
        assert ((value <= thresholds) == (value <= rounded)).all()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_rewritten_trees_take_every_float32_row_down_the_same_path(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(600, 3)) * [1, 1e6, 1e-6]
    rows[rng.random(rows.shape) < 0.1 * (seed % 2)] = np.nan
    model = small_lightgbm().fit(rows, (np.nan_to_num(rows[:, 0]) + rng.normal(size=600) > 0).astype(int))
    changed, _ = with_float32_splits(model)
    probe = (rng.normal(size=(5000, 3)) * [1, 1e6, 1e-6]).astype(np.float32).astype(float)
    probe[rng.random(probe.shape) < 0.1] = np.nan
    assert (changed.predict_proba(probe) == model.predict_proba(probe)).all()


def test_names_with_blanks_and_brackets_stay_as_they_are(trips: Trips) -> None:
    named = {"distance": "distance (mi)", "wind": "wind speed"}
    rows = trips.rows.rename({old: new for old, new in named.items() if old in trips.rows.columns})
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("texts", encoder, texts)], remainder="passthrough")
    made = build_bundle(make_pipeline(columns, small_lightgbm()).fit(rows, trips.late), rows)
    assert set(made.signature.names) == set(rows.columns)
    assert predict_frame(made.predictor(), rows.head(5)).height == 5
