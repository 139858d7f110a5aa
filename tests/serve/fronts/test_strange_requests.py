"""Whatever is sent to a front, it answers, and never with a fault of ours."""

from __future__ import annotations

import gzip
import json
from typing import Any

import grpc
import httpx
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.serve import InferenceProcess
from loopwright.serve.grpc.protos import messages

pytestmark = pytest.mark.slow

PATHS = [
    "/endpoints/trips/predict",
    "/endpoints/plus/invocations",
    "/models/trips/invoke",
    "/v1/models/trips:predict",
    "/v1/models/plus:classify",
    "/v1/models/plus/versions/2:regress",
    "/v1/projects/p/locations/l/endpoints/plus:predict",
    "/invocations",
    "/predict",
    "/score",
    "/models",
    "/v2/repository/index",
    "/v2/models/plus/infer",
]
WORDS = ["instances", "inputs", "rows", "columns", "data", "input_data", "dataframe_split", "dataframe_records"]
WORDS += ["x", "hour", "carrier", "parameters", "key", "event_time", "explain", "b64", "examples", "context"]
WORDS += ["signature_name", "features", "ready", "model_name", "name", "shape", "datatype"]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([1e308, 10**400, -1, 2**63, "NaN", "§", "1", "FP32"]),
)
BODIES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)
OK, INVALID, NOT_FOUND = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
PATIENT = settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("path", ["/v2/models/plus/infer", "/endpoints/plus/predict", "/v1/models/plus:predict"])
def test_a_body_that_grows_beyond_the_limit_when_it_is_unpacked_is_too_large(web: httpx.Client, path: str) -> None:
    answer = web.post(path, content=gzip.compress(bytes(65 << 20), 1), headers={"content-encoding": "gzip"})
    assert (answer.status_code, "bytes when it is unpacked" in answer.text) == (413, True), answer.text


@pytest.mark.parametrize("path", PATHS)
def test_any_json_is_answered_or_refused(web: httpx.Client, path: str) -> None:
    @PATIENT
    @given(BODIES)
    def ask(body: Any) -> None:
        got = web.post(path, content=json.dumps(body))
        assert got.status_code < 500, (body, got.text)
        got.json()

    ask()


@pytest.mark.parametrize("kind", ["text/csv", "application/jsonlines", "application/json"])
def test_any_bytes_are_answered_or_refused(web: httpx.Client, kind: str) -> None:
    @PATIENT
    @given(st.binary(max_size=200) | st.text(alphabet='0123456789.,-"\n\r{}[]:eExNa', max_size=60).map(str.encode))
    def ask(body: bytes) -> None:
        for name in ("plus", "trips"):
            got = web.post(f"/endpoints/{name}/invocations", content=body, headers={"content-type": kind})
            assert got.status_code < 500, (body, got.text)

    ask()


@pytest.mark.parametrize(
    "method",
    [
        "inference.GRPCInferenceService/ModelInfer",
        "inference.GRPCInferenceService/ModelStatistics",
        "inference.GRPCInferenceService/RepositoryModelLoad",
        "tensorflow.serving.PredictionService/Predict",
        "tensorflow.serving.PredictionService/GetModelMetadata",
        "tensorflow.serving.ModelService/GetModelStatus",
    ],
)
def test_any_message_is_answered_or_refused_by_its_code(process: InferenceProcess, method: str) -> None:
    with grpc.insecure_channel(process.grpc) as channel:
        call = channel.unary_unary(f"/{method}")

        @PATIENT
        @given(st.binary(max_size=64))
        def ask(data: bytes) -> None:
            assert code_of(call, data) in (OK, INVALID, NOT_FOUND)

        ask()


def test_any_tensor_is_answered_or_refused_by_its_code(process: InferenceProcess) -> None:
    types = messages("inference.proto")
    datatypes = st.sampled_from(["FP32", "FP64", "FP16", "BF16", "INT64", "UINT64", "BOOL", "BYTES", "INT8", "", "X"])
    shapes = st.lists(st.sampled_from([0, 1, 2, 3, -1, 1 << 31, 1 << 62]), max_size=3)
    tensors = st.tuples(st.sampled_from(["x", "y", ""]), datatypes, shapes, st.binary(max_size=24))

    with grpc.insecure_channel(process.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", types["ModelInferRequest"].SerializeToString
        )

        @settings(PATIENT, max_examples=examples(300))
        @given(st.lists(tensors, min_size=1, max_size=3), st.booleans())
        def ask(given_: Any, raw: bool) -> None:
            request = types["ModelInferRequest"](model_name="plus")
            for name, datatype, shape, data in given_:
                tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
                if raw:
                    request.raw_input_contents.append(data)
                else:
                    tensor.contents.bytes_contents.append(data)
                    tensor.contents.int_contents.extend(data)
            assert code_of(call, request) in (OK, INVALID)

        ask()


def code_of(call: Any, request: Any) -> grpc.StatusCode:
    """How a call ends."""
    try:
        call(request, timeout=20)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return OK


def test_numbers_beyond_all_bounds_are_refused(web: httpx.Client) -> None:
    for number in ("1e999", "-1e999", "9" * 400, "1e39"):
        for path, body in (
            ("/v1/models/plus:predict", f'{{"instances": [{number}]}}'),
            ("/endpoints/plus/predict", f'{{"rows": [{{"x": {number}}}]}}'),
            ("/endpoints/plus/invocations", f'{{"inputs": [{number}]}}'),
        ):
            assert web.post(path, content=body).status_code == 400, (path, number)
    csv = {"content-type": "text/csv"}
    for number in ("1e999", "inf", "-Infinity", "9" * 400):
        assert web.post("/endpoints/plus/invocations", content=number, headers=csv).status_code == 400, number


def test_an_infinite_number_reaches_no_model_of_doubles(web: httpx.Client, rows: pl.DataFrame) -> None:
    row = {**rows.row(0, named=True), "distance": 12345.5}
    for number in ("1e999", "Infinity", "-1e999"):
        for path, body in (
            ("/v1/models/trips:predict", {"instances": [row]}),
            ("/endpoints/trips/predict", {"rows": [row]}),
            ("/endpoints/trips/invocations", {"dataframe_records": [row]}),
        ):
            got = web.post(path, content=json.dumps(body).replace("12345.5", number))
            assert got.status_code == 400, (path, number, got.text)
        text = pl.DataFrame([row]).write_csv().replace("12345.5", number)
        got = web.post("/endpoints/trips/invocations", content=text, headers={"content-type": "text/csv"})
        assert got.status_code == 400, (number, got.text)
