"""TensorFlow Serving over gRPC, with our own messages; the client from PyPI has its proof in tests/interop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import polars as pl
import pytest

from loopwright.serve import InferenceProcess
from loopwright.serve.grpc.protos import messages

pytestmark = pytest.mark.slow

TYPES = messages("serving.proto")
SERVICES = {"Predict": "PredictionService", "GetModelMetadata": "PredictionService", "GetModelStatus": "ModelService"}
FIELDS = {
    pl.Float64: (2, "double_val"),
    pl.Int64: (9, "int64_val"),
    pl.Boolean: (10, "bool_val"),
    pl.String: (7, "string_val"),
}
Call = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def call(process: InferenceProcess) -> Iterator[Call]:
    """Calls a method with a request."""
    with grpc.insecure_channel(process.grpc) as channel:

        def made(method: str, request: Any) -> Any:
            path = f"/tensorflow.serving.{SERVICES[method]}/{method}"
            answer = TYPES["PredictResponse" if method == "Predict" else f"{method}Response"]
            return channel.unary_unary(path, type(request).SerializeToString, answer.FromString)(request, timeout=20)

        yield made


def tensor(values: list[float], dtype: int = 1, field: str = "float_val", shape: list[int] | None = None) -> Any:
    found = TYPES["Tensor"](dtype=dtype)
    for size in shape or [len(values)]:
        found.tensor_shape.dim.add(size=size)
    getattr(found, field).extend(values)
    return found


def predict(**inputs: Any) -> Any:
    return TYPES["PredictRequest"](model_spec={"name": "plus"}, inputs=inputs)


def test_columns_of_all_types_are_answered_as_the_original_model_does(
    call: Call, rows: pl.DataFrame, wanted: Any
) -> None:
    request = TYPES["PredictRequest"](model_spec={"name": "trips", "signature_name": "serving_default"})
    for column in rows:
        dtype, field = FIELDS[type(column.dtype)]
        values = [np.nan if value is None else value for value in column.to_list()]
        texts = [value.encode() for value in values] if field == "string_val" else values
        request.inputs[column.name].CopyFrom(tensor(texts, dtype, field))
    answer = call("Predict", request)
    np.testing.assert_allclose(list(answer.outputs["probability"].float_val), wanted, atol=1e-5)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("trips", 7)


def test_packed_content_and_a_constant_are_read(call: Call) -> None:
    packed = TYPES["Tensor"](dtype=1, tensor_content=np.array([1, 2], dtype="<f4").tobytes())
    packed.tensor_shape.dim.add(size=2)
    assert list(call("Predict", predict(x=packed)).outputs["value"].float_val) == [2.0, 3.0]
    constant = tensor([4.0], shape=[3, 1])
    assert list(call("Predict", predict(x=constant)).outputs["value"].float_val) == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(("choice", "value"), [({"version": {"value": 2}}, 3.0), ({"version_label": "candidate"}, 3.0)])
def test_a_version_is_chosen_by_number_or_label(call: Call, choice: dict[str, Any], value: float) -> None:
    request = TYPES["PredictRequest"](model_spec={"name": "plus", **choice}, inputs={"x": tensor([1.0])})
    assert list(call("Predict", request).outputs["value"].float_val) == [value]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict(), grpc.StatusCode.INVALID_ARGUMENT, "has no inputs"),
        (predict(z=tensor([1.0])), grpc.StatusCode.INVALID_ARGUMENT, "no input 'z'"),
        (predict(x=tensor([1.0, 2.0], shape=[3])), grpc.StatusCode.INVALID_ARGUMENT, "shape [3] and 2 values"),
        (predict(x=tensor([1.0], shape=[1 << 40])), grpc.StatusCode.INVALID_ARGUMENT, "and 1 values"),
        (predict(x=tensor([1.0], shape=[-1])), grpc.StatusCode.INVALID_ARGUMENT, "shape [-1]"),
        (predict(x=tensor([], 19, "half_val")), grpc.StatusCode.INVALID_ARGUMENT, "dtype 19"),
        (predict(x=tensor([np.nan])), grpc.StatusCode.INVALID_ARGUMENT, "row 0: is missing"),
        (TYPES["PredictRequest"](model_spec={"name": "gone"}), grpc.StatusCode.NOT_FOUND, "no endpoint 'gone'"),
        (
            TYPES["PredictRequest"](model_spec={"name": "plus", "signature_name": "s"}, inputs={"x": tensor([1.0])}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "no signature 's'",
        ),
        (
            TYPES["PredictRequest"](model_spec={"name": "plus"}, inputs={"x": tensor([1.0])}, output_filter=["w"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "no output 'w'",
        ),
    ],
)
def test_a_bad_request_is_refused_by_its_code(call: Call, request_: Any, code: Any, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call("Predict", request_)
    assert caught.value.code() is code
    assert message in caught.value.details()


def test_metadata_and_status_tell_what_is_served(call: Call) -> None:
    request = TYPES["GetModelMetadataRequest"](model_spec={"name": "trips"}, metadata_field=["signature_def"])
    packed = call("GetModelMetadata", request).metadata["signature_def"]
    assert packed.type_url.endswith("tensorflow.serving.SignatureDefMap")
    signature = TYPES["SignatureDefMap"].FromString(packed.value).signature_def["serving_default"]
    assert (signature.inputs["carrier"].dtype, signature.outputs["probability"].dtype) == (7, 1)
    status = call("GetModelStatus", TYPES["GetModelStatusRequest"](model_spec={"name": "plus"}))
    assert [(item.version, item.state) for item in status.model_version_status] == [(2, 30), (1, 30)]
