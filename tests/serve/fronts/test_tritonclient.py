"""Triton's own client, unmodified, over HTTP and gRPC."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import polars as pl
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from loopwright.serve import InferenceProcess
from loopwright.serve.grpc.protos import messages

pytestmark = pytest.mark.slow

DATATYPES = {
    pl.Float64: ("FP64", np.float64),
    pl.Int64: ("INT64", np.int64),
    pl.Boolean: ("BOOL", np.bool_),
    pl.String: ("BYTES", np.object_),
}


@dataclass
class Triton:
    """Triton's client over one of its transports, with tensors in one of their forms."""

    module: Any
    client: Any
    binary: dict[str, bool]

    def tensor(self, name: str, values: np.ndarray[Any, Any], datatype: str = "FP32") -> Any:
        found = self.module.InferInput(name, list(values.shape), datatype)
        found.set_data_from_numpy(values, **self.binary)
        return found

    def tensors(self, rows: pl.DataFrame) -> list[Any]:
        found = []
        for column in rows:
            datatype, kind = DATATYPES[type(column.dtype)]
            found.append(self.tensor(column.name, column.to_numpy().astype(kind).reshape(-1, 1), datatype))
        return found

    def output(self, name: str) -> Any:
        return self.module.InferRequestedOutput(name, **self.binary)

    def told(self, message: Any) -> Any:
        """What the client got, as plain values."""
        if self.module is over_http:
            return message
        return json_format.MessageToDict(message, preserving_proto_field_name=True)


@pytest.fixture(scope="module", params=["http json", "http binary", "grpc"])
def triton(request: pytest.FixtureRequest, process: InferenceProcess) -> Iterator[Triton]:
    if request.param == "grpc":
        found = Triton(over_grpc, over_grpc.InferenceServerClient(process.grpc), {})
    else:
        client = over_http.InferenceServerClient(process.url.removeprefix("http://"))
        found = Triton(over_http, client, {"binary_data": request.param == "http binary"})
    yield found
    found.client.close()


def test_answers_are_those_of_the_original_model(triton: Triton, rows: pl.DataFrame, wanted: Any) -> None:
    whole = rows.filter(pl.col("wind").is_not_null())
    for chosen in (whole, whole.head(3)):
        answer = triton.client.infer(
            "trips", triton.tensors(chosen), request_id="r1", outputs=[triton.output("probability")]
        )
        expected = wanted[rows["wind"].is_not_null().to_numpy()][: chosen.height]
        np.testing.assert_allclose(answer.as_numpy("probability"), expected, atol=1e-5)
        assert answer.as_numpy("label") is None
        response = answer.get_response()
        assert (response["id"] if isinstance(response, dict) else response.id) == "r1"


def test_a_missing_number_is_nan(triton: Triton, rows: pl.DataFrame, wanted: Any) -> None:
    if triton.binary == {"binary_data": False}:
        pytest.skip("JSON has no NaN")
    for chosen in (rows, rows.filter(pl.col("wind").is_null()).head(2)):
        answer = triton.client.infer("trips", triton.tensors(chosen))
        expected = wanted if chosen is rows else wanted[rows["wind"].is_null().to_numpy()][:2]
        np.testing.assert_allclose(answer.as_numpy("probability"), expected, atol=1e-5)


def test_one_matrix_may_hold_all_inputs_and_a_version_be_chosen(triton: Triton) -> None:
    matrix = triton.tensor("all", np.array([[1.0], [2.0], [3.0]], dtype=np.float32))
    answer = triton.client.infer("plus", [matrix], model_version="2", outputs=[triton.output("value")])
    assert answer.as_numpy("value").ravel().tolist() == [3.0, 4.0, 5.0]


def test_the_server_and_its_models_are_told(triton: Triton) -> None:
    client = triton.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("plus")
    assert client.is_model_ready("plus", "2")
    assert not client.is_model_ready("gone")
    server, meta, config, index = map(
        triton.told,
        (
            client.get_server_metadata(),
            client.get_model_metadata("trips"),
            client.get_model_config("trips"),
            client.get_model_repository_index(),
        ),
    )
    assert {"model_repository", "statistics", "binary_tensor_data"} <= set(server["extensions"])
    assert {item["name"]: item["datatype"] for item in meta["inputs"]}["carrier"] == "BYTES"
    assert meta["versions"] == ["7"]
    config = config.get("config", config)
    assert (config["name"], config["backend"]) == ("trips", "onnxruntime")
    assert {item["name"]: item["data_type"] for item in config["input"]}["hour"] == "TYPE_INT64"
    entries = index["models"] if isinstance(index, dict) else index
    found = {(item["name"], item["version"], item["state"]) for item in entries}
    assert found == {("plus", "1", "READY"), ("plus", "2", "READY"), ("trips", "7", "READY")}


def test_statistics_tell_rows_requests_and_times_by_version(triton: Triton) -> None:
    def told(version: str) -> Any:
        found = triton.told(triton.client.get_inference_statistics("plus", version))
        [entry] = found["model_stats"]
        assert (entry["name"], entry["version"]) == ("plus", version)
        return entry

    def number(entry: Any, *path: str) -> int:
        for name in path:
            entry = entry.get(name, {})
        return int(entry or 0)

    before = told("1")
    triton.client.infer("plus", [triton.tensor("x", np.ones(5, dtype=np.float32))], model_version="1")
    after = told("1")
    assert number(after, "inference_count") == number(before, "inference_count") + 5
    assert number(after, "execution_count") == number(before, "execution_count") + 1
    for piece in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        path = "inference_stats", piece
        assert number(after, *path, "count") == number(before, *path, "count") + 1
        assert number(after, *path, "ns") > number(before, *path, "ns")
    assert {int(item["batch_size"]) for item in after["batch_stats"]} >= {5}
    assert len(triton.told(triton.client.get_inference_statistics())["model_stats"]) == 3


def test_a_model_is_unloaded_and_loaded_again(triton: Triton) -> None:
    client = triton.client
    client.unload_model("plus")
    try:
        assert ("plus", "1", "UNAVAILABLE") in states(triton)
    finally:
        client.load_model("plus")
    assert ("plus", "1", "READY") in states(triton)
    with pytest.raises(InferenceServerException, match="'other'"):
        client.load_model("other")
    with pytest.raises(InferenceServerException, match="takes no configuration"):
        client.load_model("plus", config="{}")


def states(triton: Triton) -> set[tuple[str, str, str]]:
    index = triton.told(triton.client.get_model_repository_index())
    entries = index["models"] if isinstance(index, dict) else index
    return {(item["name"], item["version"], item["state"]) for item in entries}


@pytest.mark.parametrize(
    ("model", "name", "shape", "values", "message"),
    [
        ("plus", "x", [2], np.ones(3, dtype=np.float32), "shape"),
        ("plus", "z", [1], np.ones(1, dtype=np.float32), "no input 'z'"),
        ("plus", "x", [1], np.array([np.nan], dtype=np.float32), "row 0: is missing|JSON has no NaN"),
        ("plus", "x", [20], np.r_[np.ones(19), np.inf].astype(np.float32), "row 19|JSON"),
        ("plus", "x", [1, 2], np.ones((1, 2), dtype=np.float32), "2 values a row"),
        ("gone", "x", [1], np.ones(1, dtype=np.float32), "no endpoint 'gone'"),
    ],
)
def test_a_bad_request_is_refused_with_its_place(
    triton: Triton, model: str, name: str, shape: list[int], values: Any, message: str
) -> None:
    tensor = triton.tensor(name, values)
    tensor.set_shape(shape)
    with pytest.raises(InferenceServerException, match=message):
        triton.client.infer(model, [tensor])


def test_a_stream_answers_each_request_and_outlives_an_error(process: InferenceProcess) -> None:
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    with over_grpc.InferenceServerClient(process.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(50):
            tensor = over_grpc.InferInput("x", [1], "FP32")
            tensor.set_data_from_numpy(np.array([number], dtype=np.float32))
            model = "plus" if number != 25 else "gone"
            client.async_stream_infer(model, [tensor], request_id=str(number), enable_empty_final_response=True)
        got = [answers.get(timeout=20) for _ in range(50)]
        client.stop_stream()
    values = [None if error else float(result.as_numpy("value")[0]) for result, error in got]
    assert values == [None if number == 25 else number + 1.0 for number in range(50)]
    assert "no endpoint 'gone'" in str(got[25][1])
    last = got[-1][0].get_response()
    assert last.id == "49"
    assert last.parameters["triton_final_response"].bool_param


def test_contents_are_answered_as_contents(process: InferenceProcess) -> None:
    request = service_pb2.ModelInferRequest(model_name="plus", id="a")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[2])
    tensor.contents.fp32_contents.extend([1.0, 2.0])
    request.parameters["key"].string_param = "someone"
    with grpc.insecure_channel(process.grpc) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert list(answer.outputs[0].contents.fp32_contents) == [2.0, 3.0]
    assert not answer.raw_output_contents
    assert len(answer.parameters["prediction_ids"].string_param.split(",")) == 2
    assert answer.parameters["model"].string_param == "model:plus@1"


def test_our_messages_have_the_numbers_and_types_of_tritons_own() -> None:
    theirs = {**model_config_pb2.DESCRIPTOR.message_types_by_name, **service_pb2.DESCRIPTOR.message_types_by_name}
    compared = 0
    for name, ours in messages("inference.proto").items():
        outer, _, inner = name.partition(".")
        if outer.startswith(("SharedMemory", "Setting")):
            continue  # empty here: what is not offered
        their = theirs[outer].nested_types_by_name[inner] if inner else theirs[outer]
        for field in ours.DESCRIPTOR.fields:
            other = their.fields_by_name[field.name]
            assert (field.number, field.type) == (other.number, other.type), f"{name}.{field.name}"
            compared += 1
    assert compared > 90
