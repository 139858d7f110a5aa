"""`/invocations` and its kin, as MLflow's clients and SageMaker ask."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tests.serve.fronts.conftest import probabilities

pytestmark = pytest.mark.slow

PLUS = {"x-amzn-sagemaker-custom-attributes": "endpoint=plus"}
TRIPS = {"x-amzn-sagemaker-target-model": "trips"}


def split(rows: pl.DataFrame) -> dict[str, Any]:
    return {"columns": rows.columns, "index": list(range(rows.height)), "data": [list(row) for row in rows.rows()]}


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
def test_each_form_of_mlflow_is_answered_as_the_original_model_does(
    web: httpx.Client, rows: pl.DataFrame, wanted: Any, form: str
) -> None:
    given = {
        "dataframe_split": split(rows.select(reversed(rows.columns))),
        "dataframe_records": rows.to_dicts(),
        "instances": rows.to_dicts(),
        "inputs": rows.to_dict(as_series=False),
    }
    body = {
        form: given[form],
        "params": {"threshold": 0.5},
    }  # MLflow's server passes over params that no model declares
    answer = web.post("/invocations", json=body, headers=TRIPS)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(probabilities(answer.json()["predictions"]), wanted, atol=1e-5)


@pytest.mark.parametrize("header", [True, False])
def test_csv_is_read_with_and_without_a_header(
    web: httpx.Client, rows: pl.DataFrame, wanted: Any, header: bool
) -> None:
    text = rows.write_csv(include_header=header)
    headers = {**TRIPS, "content-type": "text/csv", "accept": "text/csv"}
    answer = web.post("/invocations", content=text, headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    got = pl.read_csv(io.StringIO(answer.text), has_header=False)
    np.testing.assert_allclose(got["column_1"].to_numpy(), wanted, atol=1e-5)


def test_json_lines_are_answered_by_json_lines(web: httpx.Client) -> None:
    headers = {**PLUS, "content-type": "application/jsonlines", "accept": "application/jsonlines"}
    for lines in ('{"x": 1}\n{"x": 2}\n', "[1]\n[2]", '{"features": [1]}\n\n{"features": [2]}\n'):
        answer = web.post("/invocations", content=lines, headers=headers)
        assert [json.loads(line) for line in answer.text.splitlines()] == [2.0, 3.0]


def test_nan_in_json_is_a_missing_value_and_infinity_is_refused(web: httpx.Client, rows: pl.DataFrame) -> None:
    frame = rows.filter(pl.col("wind").is_null()).head(1)
    text = json.dumps({"dataframe_split": split(frame)})
    missing, infinite = (text.replace("null", word) for word in ("NaN", "-Infinity"))
    given = [web.post("/invocations", content=body, headers=TRIPS) for body in (text, missing, infinite)]
    assert [answer.status_code for answer in given] == [200, 200, 400]
    assert given[0].json() == given[1].json()
    assert "-Infinity" in given[2].json()["message"]


def test_a_bare_list_or_record_is_taken(web: httpx.Client) -> None:
    assert web.post("/invocations", json=[[1.0], [2.0]], headers=PLUS).json() == [2.0, 3.0]
    assert web.post("/invocations", json={"x": 5}, headers=PLUS).json() == {"predictions": [6.0]}


def test_the_sticky_key_and_the_version_come_in_the_custom_attributes(web: httpx.Client) -> None:
    headers = {"x-amzn-sagemaker-custom-attributes": "trace=1, endpoint=plus,version=2,key=someone"}
    assert web.post("/invocations", json=[[1.0]], headers=headers).json() == [3.0]


@pytest.mark.parametrize(
    "path", ["/invocations", "/v1/models/plus:predict", "/v1/projects/p/locations/l/endpoints/plus:predict"]
)
def test_a_body_may_come_in_gzip(web: httpx.Client, path: str) -> None:
    headers = {**PLUS, "content-type": "application/json", "content-encoding": "gzip"}
    packed = gzip.compress(b'{"instances": [1.0]}')
    assert web.post(path, content=packed, headers=headers).json()["predictions"] == [2.0]
    assert web.post(path, content=packed[:-4], headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"{", "application/json", 400, "no JSON"),
        (b'{"dataframe_split": [1]}', "application/json", 400, "a split frame has the form"),
        (b'{"instances": [1], "inputs": [1]}', "application/json", 400, "one of them"),
        (b'{"rows": [1]}', "application/json", 400, "the body has 'rows'"),
        (b"{}", "application/json", 400, "the body has no rows"),
        (b"1", "application/json", 400, "neither"),
        (b"x\n", "text/csv", 400, "has a header, and no rows"),
        (b"1,2\n", "text/csv", 400, "row 0 has 2 values; 1 are due"),
        (b"1\na\n", "text/csv", 400, "input 'x', row 1: takes a number, not 'a'"),
        (b"1\n\xff\n", "text/csv", 400, "no CSV in UTF-8"),
        (b"", "text/csv", 400, "no rows"),
        (b"<x/>", "application/xml", 415, "application/xml"),
    ],
)
def test_a_bad_request_is_told_in_mlflows_form(
    web: httpx.Client, body: bytes, kind: str, status: int, message: str
) -> None:
    got = web.post("/invocations", content=body, headers={**PLUS, "content-type": kind})
    assert (got.status_code, got.json()["error_code"]) == (status, "BAD_REQUEST")
    assert message in got.json()["message"]


def test_a_request_that_names_no_model_is_told_which_there_are(web: httpx.Client) -> None:
    got = web.post("/invocations", json={"inputs": [1.0]})
    assert got.status_code == 400
    assert "plus, trips" in got.json()["message"]


def test_ping_health_and_version_answer(web: httpx.Client) -> None:
    import loopwright

    assert [web.get(path).status_code for path in ("/ping", "/health", "/version")] == [200, 200, 200]
    assert web.get("/version").text == loopwright.__version__


def test_what_boto3_asks_is_answered_under_the_endpoints_name(web: httpx.Client) -> None:
    good = web.post("/endpoints/plus/invocations", content="1\n2\n", headers={"content-type": "text/csv"})
    bad = web.post("/endpoints/gone/invocations", content="1\n", headers={"content-type": "text/csv"})
    assert good.json() == {"predictions": [2.0, 3.0]}
    assert (bad.status_code, bad.json()["__type"]) == (404, "ValidationError")


def test_a_model_of_a_multi_model_endpoint_is_listed_unloaded_and_loaded_again(web: httpx.Client) -> None:
    assert [item["modelName"] for item in web.get("/models").json()["models"]] == ["plus", "trips"]
    assert web.post("/models/plus/invoke", content="1\n", headers={"content-type": "text/csv"}).json() == {
        "predictions": [2.0]
    }
    assert web.post("/models", json={"model_name": "plus", "url": "/opt/ml/models/x/model"}).status_code == 409
    assert web.delete("/models/plus").status_code == 200
    try:
        assert web.get("/models/plus").status_code == 404
        assert web.post("/models/plus/invoke", content="1\n", headers={"content-type": "text/csv"}).status_code == 404
    finally:
        assert web.post("/models", json={"model_name": "plus", "url": "/opt/ml/models/x/model"}).status_code == 200
    assert web.get("/models/plus").json() == {"modelName": "plus", "modelUrl": "model:plus"}
    assert web.post("/models", json={"model_name": "other", "url": "s3://bucket/x"}).status_code == 404
    assert web.get("/models?next_page_token=x").status_code == 400
