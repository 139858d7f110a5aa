"""SavedModel folders, and Keras models on TensorFlow, become graphs that answer the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from loopwright.core import Forbidden, Invalid
from loopwright.models import Layout, Task, build_bundle, predict_frame

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
ROWS = pl.DataFrame(X, schema=["a", "b", "c", "d"])


class Rated(tf.Module):
    """Two columns of their own types, two outputs of their own names."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="hour"), tf.TensorSpec([None, 1], name="wind")])
    def serve(self, hour: Any, wind: Any) -> dict[str, Any]:
        flat = tf.squeeze(wind, 1)
        return {"late": tf.cast(hour, tf.float32) * 0.5 + flat, "calm": flat < 1.0}


class Writer(tf.Module):
    """What no model needs: it writes a file when it answers."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        tf.io.write_file("/tmp/loopwright-written", "x")
        return {"value": tf.reduce_sum(x, 1)}


class Python(tf.Module):
    """It asks for a function of the process that saved it."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"value": tf.numpy_function(lambda values: values.sum(1), [x], tf.float32)}


class Words(tf.Module):
    """A table from text to numbers, which has no ONNX form."""

    def __init__(self) -> None:
        keys = tf.lookup.KeyValueTensorInitializer(["calm", "storm"], [1.0, 2.0])
        self.table = tf.lookup.StaticHashTable(keys, 0.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="kind")])
    def serve(self, kind: Any) -> dict[str, Any]:
        return {"value": self.table.lookup(kind)}


def saved(module: tf.Module, folder: Path) -> Path:
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def dense(width: int, activation: str | None) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(width, activation)]
    return keras.Sequential(layers)


@pytest.mark.parametrize(
    ("width", "activation", "task"),
    [(1, "sigmoid", Task.BINARY), (3, None, Task.MULTICLASS), (1, None, Task.REGRESSION)],
)
def test_a_saved_model_of_keras_is_proved_against_tensorflow(
    width: int, activation: str | None, task: Task, tmp_path: Path
) -> None:
    model = dense(width, activation)
    model.export(str(tmp_path / "saved"), verbose=False)
    made = build_bundle(tmp_path / "saved", ROWS, task=task)
    assert made.manifest.format == "onnx/tensorflow"
    assert not made.manifest.executes_code
    assert made.manifest.layout is Layout.MATRIX
    assert made.manifest.parity.rows == ROWS.height
    assert made.manifest.parity.max_abs < 1e-5
    raw = model.predict(X, verbose=0)
    answers = predict_frame(made.predictor(), ROWS)
    if task is Task.MULTICLASS:
        assert answers["label"].to_list() == raw.argmax(axis=1).tolist()
    else:
        np.testing.assert_allclose(answers["value" if task is Task.REGRESSION else "probability"], raw[:, 0], atol=1e-5)


def test_tensors_by_name_and_outputs_as_they_are(tmp_path: Path) -> None:
    rows = pl.DataFrame({"hour": [1, 2, 3], "wind": [0.5, 1.5, 2.5]}, schema={"hour": pl.Int64, "wind": pl.Float32})
    made = build_bundle(saved(Rated(), tmp_path / "saved"), rows, task="other")
    assert made.manifest.layout is Layout.COLUMNS
    assert made.manifest.parity.rows == 3
    answers = predict_frame(made.predictor(), rows)
    assert answers["late"].to_list() == [1.0, 2.5, 4.0]
    assert answers["calm"].to_list() == [True, False, False]


@pytest.mark.parametrize(
    ("module", "error", "told"),
    [
        (Writer, Forbidden, "the operator WriteFile"),
        (Python, Forbidden, "the operator PyFunc"),
        (Words, Invalid, "the SavedModel has no ONNX form.*lookup tables"),
    ],
)
def test_what_no_model_needs_and_what_has_no_onnx_form_is_refused(
    module: type[tf.Module], error: type[Exception], told: str, tmp_path: Path
) -> None:
    folder = saved(module(), tmp_path / "saved")
    sample = ROWS if module is not Words else pl.DataFrame({"kind": ["calm", "storm"]})
    with pytest.raises(error, match=told):
        build_bundle(folder, sample, task="regression")


def test_a_damaged_saved_model_and_an_unsaid_task_are_told(tmp_path: Path) -> None:
    folder = saved(Rated(), tmp_path / "saved")
    rows = pl.DataFrame({"hour": [1, 2, 3], "wind": [0.5, 1.5, 2.5]})
    with pytest.raises(Invalid, match="does not say what it answers"):
        build_bundle(folder, rows)
    (folder / "variables" / "variables.index").write_bytes(b"nothing of the kind")
    with pytest.raises(Invalid, match="TensorFlow cannot load the SavedModel"):
        build_bundle(folder, rows, task="other")
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-200])
    with pytest.raises(Invalid, match="the file is damaged"):
        build_bundle(folder, rows, task="other")


def test_an_mlflow_folder_and_the_command_find_the_saved_model(tmp_path: Path) -> None:
    """The folder is laid out as `mlflow.tensorflow.save_model` lays it out for a tf.Module."""
    model = dense(1, "sigmoid")
    model.export(str(tmp_path / "delay" / "tf2model"), verbose=False)
    flavours = "flavors:\n  tensorflow:\n    model_type: tf2-module\n    saved_model_dir: tf2model\n"
    (tmp_path / "delay" / "MLmodel").write_text(flavours, encoding="utf-8")
    ROWS.write_csv(tmp_path / "rows.csv")
    asked = ["models", "import", "delay", "--name", "delay", "--sample", "rows.csv", "--task", "binary"]
    done = subprocess.run(
        [sys.executable, "-m", "loopwright", *asked], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "loopwright", "models", "inspect", "delay"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "onnx/tensorflow" in shown.stdout


def test_a_keras_model_on_tensorflow_becomes_a_graph_here() -> None:
    model = dense(1, "sigmoid")
    made = build_bundle(model, ROWS, task="binary")
    assert made.manifest.format == "onnx/keras"
    given = predict_frame(made.predictor(), ROWS)["probability"]
    np.testing.assert_allclose(given, model.predict(X, verbose=0)[:, 0], atol=1e-5)
