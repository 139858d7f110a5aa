"""KServe's clients, unmodified, over REST and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

from loopwright.serve import InferenceProcess

DATATYPES = {pl.Float64: "FP64", pl.Int64: "INT64", pl.Boolean: "BOOL", pl.String: "BYTES"}


def inputs_of(rows: pl.DataFrame) -> list[InferInput]:
    """Tensors with their values as JSON has them."""
    return [InferInput(column.name, [rows.height], DATATYPES[type(column.dtype)], column.to_list()) for column in rows]


def rest(process: InferenceProcess, work: Callable[[Any, str], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        try:
            return await work(client, process.url)
        finally:
            await client.close()

    return asyncio.run(run())


def over_grpc(process: InferenceProcess, work: Callable[[Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with InferenceGRPCClient(process.grpc, timeout=30) as client:
            return await work(client)

    return asyncio.run(run())


def test_rest_answers_as_the_original_model_does(process: InferenceProcess, rows: pl.DataFrame, wanted: Any) -> None:
    request = InferRequest("trips", inputs_of(rows))
    answer = rest(process, lambda client, url: client.infer(url, request, model_name="trips"))
    [output] = [item for item in answer.outputs if item.name == "probability"]
    np.testing.assert_allclose(output.data, wanted, atol=1e-5)


def test_rest_tells_that_server_and_model_are_ready(process: InferenceProcess) -> None:
    assert rest(process, lambda client, url: client.is_server_live(url))
    assert rest(process, lambda client, url: client.is_server_ready(url))
    assert rest(process, lambda client, url: client.is_model_ready(url, model_name="trips"))


def test_grpc_answers_as_the_original_model_does(process: InferenceProcess, rows: pl.DataFrame, wanted: Any) -> None:
    whole = rows.filter(pl.col("wind").is_not_null())
    request = InferRequest("trips", inputs_of(whole))
    answer = over_grpc(process, lambda client: client.infer(request))
    [output] = [item for item in answer.outputs if item.name == "probability"]
    expected = wanted[rows["wind"].is_not_null().to_numpy()]
    np.testing.assert_allclose(np.ravel(output.as_numpy()), expected, atol=1e-5)


def test_grpc_tells_that_server_and_model_are_ready(process: InferenceProcess) -> None:
    assert over_grpc(process, lambda client: client.is_server_live())
    assert over_grpc(process, lambda client: client.is_server_ready())
    assert over_grpc(process, lambda client: client.is_model_ready("trips"))


def test_a_refusal_reaches_the_caller(process: InferenceProcess) -> None:
    request = InferRequest("plus", [InferInput("z", [1], "FP32", [1.0])])
    with pytest.raises(Exception, match="no input 'z'"):
        rest(process, lambda client, url: client.infer(url, request, model_name="plus"))
    with pytest.raises(Exception, match="no input 'z'"):
        over_grpc(process, lambda client: client.infer(request))
