"""TensorFlow Serving's REST API."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tests.serve.fronts.conftest import probabilities

pytestmark = pytest.mark.slow


def test_rows_and_columns_are_answered_as_the_original_model_does(
    web: httpx.Client, rows: pl.DataFrame, wanted: Any
) -> None:
    by_row = web.post("/v1/models/trips:predict", json={"instances": rows.to_dicts()}).json()
    by_column = web.post("/v1/models/trips:predict", json={"inputs": rows.to_dict(as_series=False)}).json()
    np.testing.assert_allclose(probabilities(by_row["predictions"]), wanted, atol=1e-5)
    assert by_column["outputs"]["probability"] == probabilities(by_row["predictions"])


def test_a_row_may_be_a_list_in_the_order_of_the_signature(web: httpx.Client, rows: pl.DataFrame, wanted: Any) -> None:
    given = {"signature_name": "serving_default", "instances": [list(row) for row in rows.rows()]}
    answer = web.post("/v1/models/trips:predict", json=given).json()
    np.testing.assert_allclose(probabilities(answer["predictions"]), wanted, atol=1e-5)


def test_a_string_may_come_in_base64(web: httpx.Client, rows: pl.DataFrame, wanted: Any) -> None:
    row = rows.row(0, named=True)
    row["carrier"] = {"b64": base64.b64encode(row["carrier"].encode()).decode()}
    answer = web.post("/v1/models/trips:predict", json={"instances": [row]}).json()
    assert answer["predictions"][0]["probability"] == pytest.approx(wanted[0], abs=1e-5)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"instances": [1.0, 2.0]}, {"predictions": [2.0, 3.0]}),
        ({"instances": [[1.0], [2.0]]}, {"predictions": [2.0, 3.0]}),
        ({"instances": [{"x": 1.0}, {"x": [2]}]}, {"predictions": [2.0, 3.0]}),
        ({"inputs": [1.0, 2.0]}, {"outputs": [2.0, 3.0]}),
        ({"inputs": {"x": [[1.0], [2.0]]}}, {"outputs": [2.0, 3.0]}),
    ],
)
def test_a_model_with_one_input_and_one_output_needs_no_names(web: httpx.Client, given: Any, answer: Any) -> None:
    got = web.post("/v1/models/plus:predict", json=given)
    assert (got.status_code, got.json()) == (200, answer)
    assert len(got.headers["loopwright-prediction-ids"].split(",")) == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [("plus", 11.0), ("plus/versions/1", 11.0), ("plus/versions/2", 12.0), ("plus/labels/candidate", 12.0)],
)
def test_a_version_is_chosen_by_its_number_or_label(web: httpx.Client, path: str, value: float) -> None:
    answer = web.post(f"/v1/models/{path}:predict", json={"instances": [10.0]})
    assert answer.json() == {"predictions": [value]}


def test_classify_gives_each_class_its_score(web: httpx.Client, rows: pl.DataFrame, wanted: Any) -> None:
    examples = [{"hour": row["hour"], "carrier": row["carrier"], "wind": row["wind"]} for row in rows.to_dicts()]
    context = {"distance": 700.0, "holiday": False, "value": 0.0}
    answer = web.post("/v1/models/trips:classify", json={"context": context, "examples": examples}).json()["results"]
    assert [[name for name, _ in row] for row in answer] == [["0", "1"]] * len(examples)
    assert all(sum(score for _, score in row) == pytest.approx(1.0) for row in answer)
    whole = web.post("/v1/models/trips:classify", json={"examples": rows.to_dicts()}).json()["results"]
    np.testing.assert_allclose([row[1][1] for row in whole], wanted, atol=1e-5)


def test_regress_gives_a_value_per_example(web: httpx.Client) -> None:
    answer = web.post("/v1/models/plus:regress", json={"examples": [{"x": 1.0}, {"x": [4.0]}]})
    assert answer.json() == {"results": [2.0, 5.0]}
    assert web.post("/v1/models/plus:classify", json={"examples": [{"x": 1.0}]}).status_code == 400


def test_status_and_metadata_tell_what_is_served(web: httpx.Client) -> None:
    told = web.get("/v1/models/plus").json()["model_version_status"]
    assert [(item["version"], item["state"], item["status"]["error_code"]) for item in told] == [
        ("2", "AVAILABLE", "OK"),
        ("1", "AVAILABLE", "OK"),
    ]
    one = web.get("/v1/models/plus/labels/champion").json()["model_version_status"]
    assert [item["version"] for item in one] == ["1"]
    meta = web.get("/v1/models/trips/versions/7/metadata").json()
    signature = meta["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert meta["model_spec"] == {"name": "trips", "signature_name": "", "version": "7"}
    assert {name: item["dtype"] for name, item in signature["inputs"].items()} == {
        "distance": "DT_DOUBLE",
        "wind": "DT_DOUBLE",
        "hour": "DT_INT64",
        "carrier": "DT_STRING",
        "holiday": "DT_BOOL",
        "value": "DT_DOUBLE",
    }


@pytest.mark.parametrize(
    ("path", "given", "status", "message"),
    [
        ("plus:predict", {"instances": []}, 400, "one item per row"),
        ("plus:predict", {"instances": [1], "inputs": [1]}, 400, "one of them"),
        ("plus:predict", {}, 400, "neither instances nor inputs"),
        ("plus:predict", [1], 400, "no JSON object"),
        ("plus:predict", {"instances": [{"x": "a"}]}, 400, "input 'x', row 0"),
        ("plus:predict", {"instances": [{"x": 1.0}, {}]}, 400, "input 'x', row 1: is not in the request"),
        ("plus:predict", {"instances": [{"x": 1.0}, 2]}, 400, "row 1 is no object"),
        ("plus:predict", {"instances": [[1.0, 2.0]]}, 400, "row 0 has 2 values; the model takes 1"),
        ("plus:predict", {"inputs": {"y": [1.0]}}, 400, "no input 'y'"),
        ("plus:predict", {"inputs": {"x": []}}, 400, "no rows"),
        ("plus:predict", {"inputs": {"x": {"b64": "§"}}}, 400, "base64"),
        ("plus:predict", {"signature_name": "other", "instances": [1.0]}, 400, "no signature 'other'"),
        ("plus/versions/9:predict", {"instances": [1.0]}, 404, "version '9'"),
        ("plus/labels/stable:predict", {"instances": [1.0]}, 404, "no label 'stable'"),
        ("other:predict", {"instances": [1.0]}, 404, "no endpoint 'other'"),
        ("plus:guess", {"instances": [1.0]}, 404, "nothing at"),
        ("plus:regress", {"examples": [1.0]}, 400, "row 0 is no object"),
        ("trips:regress", {"examples": [{}]}, 400, "the rows have no values"),
    ],
)
def test_a_bad_request_is_told_in_the_protocols_form(
    web: httpx.Client, path: str, given: Any, status: int, message: str
) -> None:
    got = web.post(f"/v1/models/{path}", json=given)
    assert (got.status_code, list(got.json())) == (status, ["error"])
    assert message in got.json()["error"]
