"""Our own API: named columns, ids, and explanations."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.slow


def test_rows_and_columns_are_answered_with_ids_and_who_answered(
    web: httpx.Client, rows: pl.DataFrame, wanted: Any
) -> None:
    by_row = web.post("/endpoints/trips/predict", json={"rows": rows.to_dicts(), "key": "someone"}).json()
    by_column = web.post("/endpoints/trips/predict", json={"columns": rows.to_dict(as_series=False)}).json()
    for answer in (by_row, by_column):
        got = answer["predictions"]
        np.testing.assert_allclose([item["outputs"]["probability"] for item in got], wanted, atol=1e-5)
        assert {(item["variant"], item["model"]) for item in got} == {("champion", "model:trips@7")}
        assert len({item["id"] for item in got}) == rows.height


def test_a_version_is_asked_by_its_number(web: httpx.Client) -> None:
    answer = web.post("/endpoints/plus/versions/2/predict", json={"rows": [{"x": 1.0}]}).json()
    assert answer["predictions"][0]["outputs"] == {"value": 3.0}


def test_an_explanation_adds_up_to_the_answer(web: httpx.Client, rows: pl.DataFrame, wanted: Any) -> None:
    body = {"rows": rows.head(3).to_dicts(), "explain": {"pairs": 8}}
    answer = web.post("/endpoints/trips/predict", json=body).json()["predictions"]
    for item, expected in zip(answer, wanted, strict=False):
        told = item["explanation"]
        assert told["output"] == "probability"
        assert told["answer"] == pytest.approx(expected, abs=1e-5)
        assert told["baseline"] + sum(told["values"].values()) == pytest.approx(told["answer"], abs=1e-5)
        assert set(told["values"]) == set(rows.columns)
        # Distance and wind say nothing about lateness, where hour, carrier and value do.
        assert abs(told["values"]["distance"]) < 0.25
    moved = np.mean([[abs(item["explanation"]["values"][name]) for name in ("hour", "value")] for item in answer])
    assert moved > np.mean([abs(item["explanation"]["values"]["distance"]) for item in answer])


def test_a_shifted_answer_is_explained_by_the_shift(web: httpx.Client) -> None:
    [item] = web.post("/endpoints/plus/predict", json={"rows": [{"x": 10.0}], "explain": True}).json()["predictions"]
    told = item["explanation"]
    assert told["answer"] == 11.0
    assert told["values"]["x"] == pytest.approx(11.0 - told["baseline"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "one of 'rows' and 'columns'"),
        ({"rows": [{"x": 1}], "columns": {"x": [1]}}, 400, "one of 'rows' and 'columns'"),
        ({"rows": [{"x": 1}], "entities": {}}, 400, "entities"),
        ({"rows": [{"y": 1}]}, 400, "no input 'y'"),
        ({"rows": [{"x": 1}], "key": [1, 2]}, 400, "'key' has 2 values for 1 rows"),
        ({"rows": [{"x": 1}] * 33, "explain": True}, 400, "33 rows are to be explained"),
        ({"rows": [{"x": 1}], "explain": {"pairs": 1000}}, 400, "explain.pairs is 1000"),
        ({"rows": [{"x": 1}], "explain": {"output": "label"}}, 400, "no output 'label'"),
    ],
)
def test_a_bad_request_says_what_is_wrong(web: httpx.Client, body: Any, status: int, message: str) -> None:
    got = web.post("/endpoints/plus/predict", json=body)
    assert (got.status_code, message in got.json()["error"]) == (status, True), got.text
