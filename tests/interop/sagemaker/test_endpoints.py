"""boto3's sagemaker-runtime, unmodified, with our address as its endpoint."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import polars as pl
import pytest
from botocore.config import Config

from loopwright.serve import InferenceProcess


@pytest.fixture
def runtime(process: InferenceProcess) -> Iterator[Any]:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=process.url,
        region_name="eu-central-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"max_attempts": 1}, proxies={}),
    )
    yield client
    client.close()


def test_json_is_answered_as_the_original_model_does(runtime: Any, rows: pl.DataFrame, wanted: Any) -> None:
    body = json.dumps({"instances": rows.to_dicts()})
    answer = runtime.invoke_endpoint(EndpointName="trips", ContentType="application/json", Body=body)
    got = [item["probability"] for item in json.load(answer["Body"])["predictions"]]
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert answer["InvokedProductionVariant"] == "champion"


def test_csv_is_answered_by_csv_as_batch_transform_asks(runtime: Any, rows: pl.DataFrame, wanted: Any) -> None:
    body = rows.write_csv(include_header=False)
    answer = runtime.invoke_endpoint(EndpointName="trips", ContentType="text/csv", Accept="text/csv", Body=body)
    assert answer["ContentType"].startswith("text/csv")
    got = pl.read_csv(io.BytesIO(answer["Body"].read()), has_header=False)
    np.testing.assert_allclose(got["column_1"].to_numpy(), wanted, atol=1e-5)


def test_json_lines_and_custom_attributes_are_taken(runtime: Any) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName="plus",
        ContentType="application/jsonlines",
        Accept="application/jsonlines",
        Body=b"[1]\n[2]\n",
        CustomAttributes="version=2",
    )
    assert answer["Body"].read() == b"3.0\n4.0\n"
    single = runtime.invoke_endpoint(EndpointName="plus", ContentType="text/csv", Body=b"1")
    assert len(single["CustomAttributes"].removeprefix("prediction-id=")) == 32


@pytest.mark.parametrize(
    ("endpoint", "body", "message"),
    [("gone", b"1", "no endpoint 'gone'"), ("plus", b"a", "input 'x', row 0: takes a number, not 'a'")],
)
def test_an_error_reaches_the_caller_as_awss_own(runtime: Any, endpoint: str, body: bytes, message: str) -> None:
    with pytest.raises(runtime.exceptions.ClientError) as caught:
        runtime.invoke_endpoint(EndpointName=endpoint, ContentType="text/csv", Body=body)
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationError"
    assert message in error["Message"]
