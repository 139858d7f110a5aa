"""Vertex AI's and Azure ML's contracts, and what the environment says of a platform."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Served, adding_bundle
from tests.serve.fronts.conftest import probabilities

from loopwright.core import Invalid
from loopwright.serve import ServedEndpoint, Variant
from loopwright.serve.rest import Contract, contract_from

pytestmark = pytest.mark.slow

VERTEX = "/v1/projects/p/locations/l/endpoints"


def test_vertex_answers_with_predictions_and_the_model_that_gave_them(
    web: httpx.Client, rows: pl.DataFrame, wanted: Any
) -> None:
    given = {"instances": rows.to_dicts(), "parameters": {"key": "someone"}}
    answer = web.post(f"{VERTEX}/trips:predict", json=given).json()
    np.testing.assert_allclose(probabilities(answer["predictions"]), wanted, atol=1e-5)
    assert (answer["model"], answer["modelVersionId"], answer["deployedModelId"]) == ("model:trips@7", "7", "champion")


@pytest.mark.parametrize(
    ("path", "given", "status", "message"),
    [
        (f"{VERTEX}/plus:predict", {"instances": [1], "parameters": {"temperature": 1}}, 400, "'temperature'"),
        (f"{VERTEX}/plus:predict", {"instances": 1}, 400, "one item per row"),
        (f"{VERTEX}/plus:predict", [1], 400, "no JSON object"),
        (f"{VERTEX}/plus:predict", {"instances": [1], "parameters": [1]}, 400, "'parameters'"),
        (f"{VERTEX}/gone:predict", {"instances": [1]}, 404, "'gone'"),
        ("/predict", {"instances": [1]}, 400, "names none"),
    ],
)
def test_a_bad_request_is_told_in_vertex_form(
    web: httpx.Client, path: str, given: Any, status: int, message: str
) -> None:
    got = web.post(path, json=given)
    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (status, status)
    assert message in error["message"]


def test_a_container_answers_where_its_platform_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(tmp_path)
    bundle = served.put(adding_bundle(1.0, tmp_path / "plus"))
    served.publish(ServedEndpoint("plus", "salt", (Variant("champion", "model:plus@1", bundle),)))
    monkeypatch.setenv("AIP_HTTP_PORT", "8080")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/v1/endpoints/9/deployedModels/8")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/v1/endpoints/9/deployedModels/8:predict")
    assert "AIP_HTTP_PORT" in os.environ
    with served.start(stderr=subprocess.DEVNULL) as process, httpx.Client(base_url=process.url) as web:
        assert web.get("/v1/endpoints/9/deployedModels/8").status_code == 200
        answer = web.post("/v1/endpoints/9/deployedModels/8:predict", json={"instances": [1.0]}).json()
        assert answer["predictions"] == [2.0]
        assert web.post("/predict", json={"instances": [1.0]}).json()["predictions"] == [2.0]
        assert web.get("/").text == "Healthy"
        for body in ({"input_data": {"columns": ["x"], "index": [0], "data": [[1.0]]}}, {"data": [[1.0]]}, [[1.0]]):
            assert web.post("/score", json=body).json() == [2.0]
        bad = web.post("/score", json={"rows": [[1.0]]})
        assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid")


@pytest.mark.parametrize(
    ("environ", "contract"),
    [
        ({}, Contract()),
        ({"LOOPWRIGHT_DEFAULT_MODEL": "delay"}, Contract(model="delay")),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, Contract("sagemaker", 8080)),
        ({"SAGEMAKER_INTERNAL_IMAGE_URI": "x"}, Contract()),
        (
            {
                "SAGEMAKER_BIND_TO_PORT": "9000",
                "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
                "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
            },
            Contract("sagemaker", 9000, accept="text/csv", workers=2),
        ),
        (
            {"AIP_HTTP_PORT": "8081", "AIP_HEALTH_ROUTE": "/h", "AIP_PREDICT_ROUTE": "/p"},
            Contract("vertex", 8081, health=("/h",), predict=("/p",)),
        ),
        ({"MLSERVER_HTTP_PORT": "9000", "MLSERVER_GRPC_PORT": "9500"}, Contract("seldon", 9000, 9500)),
        ({"PREDICTIVE_UNIT_HTTP_SERVICE_PORT": "9001"}, Contract("seldon", 9001)),
    ],
)
def test_the_environment_says_what_the_platform_wants(environ: dict[str, str], contract: Contract) -> None:
    assert contract_from(environ) == contract


@pytest.mark.parametrize(
    "environ",
    [
        {"AIP_HTTP_PORT": "0"},
        {"AIP_HTTP_PORT": "8080x"},
        {"AIP_HTTP_PORT": "8080", "AIP_PREDICT_ROUTE": "predict"},
        {"AIP_HTTP_PORT": "8080", "AIP_PREDICT_ROUTE": "/{a}"},
        {"SAGEMAKER_BIND_TO_PORT": "99999"},
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(Invalid, match=next(iter(environ))[:4]):
        contract_from(environ)
