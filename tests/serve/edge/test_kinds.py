"""Models of every kind at the edge: several values a row, several classes, text, and Python, which cannot go there."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests.models.isolated.shapes import Brightness
from tests.models.test_shapes import IMAGES, ROWS, VECTORS, graph

from loopwright.core import Invalid
from loopwright.models import Bundle, build_bundle, columns_of
from loopwright.serve import EdgePlan, Precision, export_edge
from loopwright.serve.edge.standalone import BadInput, EdgeModel, answer_csv

pytestmark = pytest.mark.slow


def exported(bundle: Bundle, target: Path, precision: Precision = Precision.NONE) -> EdgeModel:
    report = export_edge(bundle, target, EdgePlan(precision=precision), ref="m", digest="ab" * 32)
    assert report.passed, report
    return EdgeModel(target)


def same(bundle: Bundle, model: EdgeModel, rows: pl.DataFrame) -> None:
    columns = columns_of(rows, bundle.signature)
    own, found = bundle.predictor().predict(columns), model.predict(columns)
    assert list(found) == list(own)
    for name, values in own.items():
        assert np.array_equal(found[name], values), name


def test_inputs_with_a_shape_are_checked_and_answered(tmp_path: Path) -> None:
    bundle = build_bundle(graph(), ROWS, folder=tmp_path / "bundle")
    model = exported(bundle, tmp_path / "edge")
    same(bundle, model, ROWS)
    row: dict[str, Any] = {"image": IMAGES[0].tolist(), "vector": VECTORS[0].tolist(), "wind": 1.0}
    for change, message in (
        ({"vector": [1.0] * 5}, "column 'vector', row 1: takes the shape [6], not [5]"),
        ({"vector": [1.0] * 5 + [None]}, "column 'vector', row 1: holds a number that is missing"),
        ({"vector": ["a"] * 6}, "column 'vector', row 1: takes numbers in the shape [6]"),
        ({"image": [[1.0], [1.0, 2.0]]}, "column 'image', row 1: takes numbers in the shape [3, 4, 5]"),
    ):
        with pytest.raises(BadInput) as refused:
            model.predict([row, {**row, **change}])
        assert message in str(refused.value)
    out = io.StringIO()
    cells = [json.dumps(row["image"]), json.dumps(row["vector"]), "1.0"]
    text = "image,vector,wind\n" + ",".join(f'"{cell}"' for cell in cells) + "\n"
    assert answer_csv(model, io.StringIO(text), out) == 1
    assert float(out.getvalue().splitlines()[1]) == pytest.approx(float(next(iter(model.predict([row]).values()))[0]))


def test_several_classes_with_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(rng.normal(size=(200, 3)), schema=["a", "b", "c"])
    names = np.array(["low", "mid", "high"])[np.digitize(rows["a"].to_numpy(), [-0.5, 0.5])]
    forest = RandomForestClassifier(10, random_state=0).fit(rows, names)
    bundle = build_bundle(forest, rows, folder=tmp_path / "bundle")
    model = exported(bundle, tmp_path / "edge", Precision.FP16)
    same(bundle, model, rows)
    out = io.StringIO()
    rows.head(2).write_csv(tmp_path / "rows.csv")
    answer_csv(model, io.StringIO((tmp_path / "rows.csv").read_text()), out)
    found = pl.read_csv(io.StringIO(out.getvalue()))
    assert (
        found["label"].to_list()
        == bundle.predictor().predict(columns_of(rows.head(2), bundle.signature))["label"].tolist()
    )
    assert len(json.loads(found["probabilities"][0])) == 3


def test_text_is_answered(tmp_path: Path) -> None:
    words = ["good fine day", "bad rain", "fine sun day", "bad cold rain"] * 5
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, [1, 0, 1, 0] * 5)
    rows = pl.DataFrame({"text": words})
    bundle = build_bundle(fitted, rows, folder=tmp_path / "bundle")
    model = exported(bundle, tmp_path / "edge", Precision.INT8)
    same(bundle, model, rows)
    assert model.predict({"text": words})["label"].tolist() == fitted.predict(words).tolist()


def test_a_model_in_python_has_no_graph_to_export(tmp_path: Path) -> None:
    rows = pl.DataFrame({"image": pl.Series(IMAGES, dtype=pl.Array(pl.Float32, (3, 4, 5)))})
    bundle = build_bundle(Brightness, rows, folder=tmp_path / "bundle")
    with pytest.raises(Invalid, match="a model in Python has no graph"):
        exported(bundle, tmp_path / "edge")
    assert not (tmp_path / "edge").exists()
