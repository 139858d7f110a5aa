"""TensorFlow Serving's stubs from PyPI, unmodified, over gRPC; and its REST API from a plain HTTP client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from loopwright.serve import InferenceProcess
from loopwright.serve.grpc.protos import messages

TYPES = {pl.Float64: tf.float64, pl.Int64: tf.int64, pl.Boolean: tf.bool, pl.String: tf.string}


@pytest.fixture
def channel(process: InferenceProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(process.grpc) as found:
        yield found


def plus(values: Any, **spec: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec={"name": "plus", **spec})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(values, dtype=tf.float32))
    return request


def test_predict_answers_as_the_original_model_does(channel: grpc.Channel, rows: pl.DataFrame, wanted: Any) -> None:
    request = predict_pb2.PredictRequest(model_spec={"name": "trips", "signature_name": "serving_default"})
    for column in rows:
        values = [np.nan if value is None else value for value in column.to_list()]
        request.inputs[column.name].CopyFrom(tf.make_tensor_proto(values, dtype=TYPES[type(column.dtype)]))
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 30)
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["probability"]), wanted, atol=1e-5)
    assert answer.model_spec.version.value == 7


def test_a_version_a_label_and_outputs_are_chosen(channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    by_number = stub.Predict(plus([[1.0], [2.0]], version={"value": 2}), 30)
    by_label = stub.Predict(plus([1.0, 2.0], version_label="candidate"), 30)
    for answer in (by_number, by_label):
        assert tf.make_ndarray(answer.outputs["value"]).ravel().tolist() == [3.0, 4.0]
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(plus([1.0], version={"value": 9}), 30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_metadata_and_status_are_read_by_their_own_messages(channel: grpc.Channel) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "trips"}, metadata_field=["signature_def"]
    )
    metadata = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(request, 30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert metadata.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert tf.as_dtype(signature.inputs["carrier"].dtype) is tf.string
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
        get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "plus"}), 30
    )
    state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(item.version, item.state) for item in status.model_version_status] == [(2, state), (1, state)]


def test_the_rest_api_answers_what_its_documentation_shows(process: InferenceProcess) -> None:
    answer = httpx.post(f"{process.url}/v1/models/plus:predict", json={"instances": [1.0, 2.0, 5.0]})
    assert answer.json() == {"predictions": [2.0, 3.0, 6.0]}


def test_our_messages_have_the_numbers_and_types_of_theirs() -> None:
    ours = messages("serving.proto")
    theirs = {
        "PredictRequest": predict_pb2.PredictRequest,
        "PredictResponse": predict_pb2.PredictResponse,
        "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
        "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
        "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
        "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
    }
    seen: set[str] = set()
    for name, their in theirs.items():
        compare(ours[name].DESCRIPTOR, their.DESCRIPTOR, seen)
    assert {"Tensor", "TensorShape", "ModelSpec", "ModelVersionStatus"} <= seen


def compare(ours: Any, theirs: Any, seen: set[str]) -> None:
    """Compare two messages, and those that they are made of."""
    if ours.name in seen:
        return
    seen.add(ours.name)
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        kind = field.TYPE_INT32 if other.type == field.TYPE_ENUM != field.type else other.type  # alike on the wire
        assert (field.number, field.type) == (other.number, kind), f"{ours.name}.{field.name}"
        if field.message_type is not None:
            compare(field.message_type, other.message_type, seen)
