"""Keras models become graphs that answer the same."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import polars as pl
import pytest

from loopwright.core import Invalid
from loopwright.models import Layout, Task, build_bundle, predict_frame

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 6)).astype(np.float32)
ROWS = pl.DataFrame(X, schema=[f"x{place}" for place in range(6)])
IMAGES = RNG.normal(size=(20, 8, 8, 3)).astype(np.float32)


def dense(width: int, activation: str | None) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(width, activation)]
    return keras.Sequential(layers)


@pytest.mark.parametrize(
    ("width", "activation", "task"),
    [
        (1, "sigmoid", Task.BINARY),
        (1, None, Task.BINARY),
        (3, "softmax", Task.MULTICLASS),
        (3, None, Task.MULTICLASS),
        (1, None, Task.REGRESSION),
    ],
)
def test_one_matrix_and_each_kind_of_answer(width: int, activation: str | None, task: Task) -> None:
    model = dense(width, activation)
    made = build_bundle(model, ROWS, task=task)
    assert made.manifest.format == "onnx/keras"
    assert made.manifest.layout is Layout.MATRIX
    assert made.manifest.parity.rows == ROWS.height
    assert made.manifest.parity.max_abs < 1e-5
    if activation == "sigmoid":
        given = predict_frame(made.predictor(), ROWS)["probability"]
        np.testing.assert_allclose(given, model.predict(X, verbose=0)[:, 0], atol=1e-5)


def test_an_image_and_a_number_are_inputs_of_their_own() -> None:
    keras.utils.set_random_seed(1)
    image, wind = keras.Input((8, 8, 3), name="image"), keras.Input((1,), name="wind")
    seen = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    model = keras.Model([image, wind], keras.layers.Dense(1)(keras.layers.Concatenate()([seen, wind])))
    rows = pl.DataFrame(
        {"image": pl.Series(IMAGES, dtype=pl.Array(pl.Float32, (8, 8, 3))), "wind": np.arange(20, dtype=np.float32)}
    )
    made = build_bundle(model, rows, task="regression")
    assert [item.shape for item in made.signature.inputs] == [(8, 8, 3), ()]
    expected = model.predict([IMAGES, np.arange(20, dtype=np.float32).reshape(-1, 1)], verbose=0)[:, 0]
    np.testing.assert_allclose(predict_frame(made.predictor(), rows)["value"], expected, atol=1e-4)


def test_a_keras_file_is_opened_and_one_with_code_is_refused(tmp_path: Path) -> None:
    model = dense(1, "sigmoid")
    model.save(tmp_path / "model.keras")
    made = build_bundle(tmp_path / "model.keras", ROWS, task="binary")
    given = predict_frame(made.predictor(), ROWS)["probability"]
    np.testing.assert_allclose(given, model.predict(X, verbose=0)[:, 0], atol=1e-5)
    odd = keras.Sequential([keras.Input((6,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(1)])
    odd.save(tmp_path / "odd.keras")
    with pytest.raises(Invalid, match="Keras cannot read"):
        build_bundle(tmp_path / "odd.keras", ROWS, task="regression")


def test_a_task_is_asked_for() -> None:
    with pytest.raises(Invalid, match="does not say what it answers"):
        build_bundle(dense(1, None), ROWS)
