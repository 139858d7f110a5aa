"""Inputs with several values a row: vectors, images, windows of time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from tests.models.isolated.shapes import Brightness

from loopwright.core import DType, Invalid
from loopwright.models import Layout, Task, build_bundle, columns_of, predict_frame

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(40, 3, 4, 5)).astype(np.float32)
WEIGHTS = RNG.normal(size=6).astype(np.float32)
VECTORS = RNG.normal(size=(40, 6)).astype(np.float32)
ROWS = pl.DataFrame(
    {
        "image": pl.Series(IMAGES, dtype=pl.Array(pl.Float32, (3, 4, 5))),
        "vector": pl.Series(VECTORS.tolist(), dtype=pl.List(pl.Float32)),
        "wind": RNG.normal(size=40).astype(np.float32),
    }
)


def graph() -> onnx.ModelProto:
    """The mean of the image, the vector's product with weights, and the wind, added up."""
    shapes = {"image": ["n", 3, 4, 5], "vector": ["n", 6], "wind": ["n"]}
    weights = onnx.numpy_helper.from_array(WEIGHTS, "weights")
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("MatMul", ["vector", "weights"], ["product"]),
        helper.make_node("Sum", ["mean", "product", "wind"], ["total"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("total", TensorProto.FLOAT, ["n"])]
    model = helper.make_graph(nodes, "shapes", inputs, outputs, [weights])
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def expected() -> np.ndarray[Any, Any]:
    return IMAGES.mean(axis=(1, 2, 3)) + VECTORS @ WEIGHTS + ROWS["wind"].to_numpy()


def test_a_graph_takes_arrays_of_any_rank_by_column_and_by_row() -> None:
    made = build_bundle(graph(), ROWS)
    assert made.manifest.layout is Layout.COLUMNS
    assert [(item.name, item.dtype, item.shape) for item in made.signature.inputs] == [
        ("image", DType.FLOAT32, (3, 4, 5)),
        ("vector", DType.FLOAT32, (6,)),
        ("wind", DType.FLOAT32, ()),
    ]
    assert made.manifest.manifest_format == 2
    predictor = made.predictor()
    np.testing.assert_allclose(predict_frame(predictor, ROWS)["value"], expected(), rtol=1e-4, atol=1e-5)
    by_row = predictor.predict_rows([list(row) for row in ROWS.rows()])
    np.testing.assert_allclose(by_row["value"], expected(), rtol=1e-4, atol=1e-5)


def test_the_signature_has_the_range_of_arrays_as_of_single_values() -> None:
    image, vector, wind = build_bundle(graph(), ROWS, task="regression").signature.inputs
    assert (image.low, image.high) == (IMAGES.min(), IMAGES.max())
    assert (vector.low, vector.high) == (VECTORS.min(), VECTORS.max())
    assert (wind.low, wind.high) == (ROWS["wind"].min(), ROWS["wind"].max())


def test_the_example_is_a_row_that_the_model_answers() -> None:
    made = build_bundle(graph(), ROWS)
    row = made.example_row()
    np.testing.assert_array_equal(np.array(row[0], dtype=np.float32), IMAGES[0])
    np.testing.assert_allclose(made.predictor().predict_rows([row])["value"], expected()[:1], rtol=1e-4)


def test_another_shape_is_refused_by_name() -> None:
    predictor = build_bundle(graph(), ROWS).predictor()
    columns = columns_of(ROWS, predictor.signature)
    with pytest.raises(Invalid, match=r"'image' takes \[3, 4, 5\] values a row, not \[4, 5\]"):
        predictor.predict({**columns, "image": columns["image"][:, 0]})
    with pytest.raises(Invalid, match=r"takes \[3, 4, 5\] values a row, where a column gives \[2\]"):
        build_bundle(graph(), ROWS.with_columns(image=pl.lit([1.0, 2.0])))


def test_lists_of_different_lengths_and_holes_are_refused() -> None:
    with pytest.raises(Invalid, match="different lengths"):
        build_bundle(graph(), pl.DataFrame({"vector": [[1.0], [1.0, 2.0]]}))
    with pytest.raises(Invalid, match="misses some"):
        build_bundle(graph(), pl.DataFrame({"vector": [[1.0], None]}))


def test_scikit_learn_says_that_it_takes_single_values() -> None:
    model = LogisticRegression().fit(VECTORS, VECTORS[:, 0] > 0)
    with pytest.raises(Invalid, match="'vector' has several"):
        build_bundle(model, ROWS.select("vector"))


def test_a_worker_takes_them_too(tmp_path: Path) -> None:
    made = build_bundle(Brightness, ROWS.select("image"), folder=tmp_path / "bundle")
    assert made.manifest.task is Task.REGRESSION
    assert made.manifest.parity.rows == ROWS.height
    with made.predictor() as predictor:
        given = predictor.predict({"image": IMAGES})["value"]
        np.testing.assert_allclose(given, IMAGES.mean(axis=(1, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(predictor.predict_rows([[IMAGES[3].tolist()]])["value"], given[3:4], rtol=1e-5)
        with pytest.raises(Invalid, match=r"takes \[3, 4, 5\]"):
            predictor.predict({"image": IMAGES[:, 0]})
