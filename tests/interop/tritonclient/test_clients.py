"""Triton's clients, unmodified, with all that they bring: over HTTP and gRPC, with callbacks, streams and asyncio."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from tests.serve.fronts.test_shaped import SHAPE, rows_of
from tests.serve.fronts.test_shaped import wanted as sums_of
from tritonclient.utils import InferenceServerException

from loopwright.serve import InferenceProcess

KINDS = {
    pl.Float64: ("FP64", np.float64),
    pl.Int64: ("INT64", np.int64),
    pl.Boolean: ("BOOL", np.bool_),
    pl.String: ("BYTES", np.object_),
}
FORMS = ["http json", "http binary", "grpc"]


class Client:
    """A client over one transport, with tensors in one form, of one process."""

    def __init__(self, form: str, process: InferenceProcess) -> None:
        self.module: Any = over_grpc if form == "grpc" else over_http
        address = process.grpc if form == "grpc" else process.url.removeprefix("http://")
        self.triton = self.module.InferenceServerClient(address)
        self.form = {} if form == "grpc" else {"binary_data": form == "http binary"}
        self.as_json = {"as_json": True} if form == "grpc" else {}

    def tensor(self, name: str, values: np.ndarray[Any, Any]) -> Any:
        datatype = {"f": "FP32", "i": "INT64"}[values.dtype.kind]
        return self.module.InferInput(name, list(values.shape), datatype).set_data_from_numpy(values, **self.form)

    def tensors(self, values: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
        return [self.tensor(name, column) for name, column in values.items()]

    def columns(self, rows: pl.DataFrame) -> list[Any]:
        found = []
        for column in rows:
            datatype, kind = KINDS[type(column.dtype)]
            values = column.to_numpy().astype(kind).reshape(-1, 1)
            found.append(self.module.InferInput(column.name, list(values.shape), datatype))
            found[-1].set_data_from_numpy(values, **self.form)
        return found

    def told(self, method: str, *given: Any) -> Any:
        """What a method of the client tells, as plain values."""
        return getattr(self.triton, method)(*given, **self.as_json)


@pytest.fixture(params=FORMS)
def client(request: pytest.FixtureRequest, process: InferenceProcess) -> Iterator[Client]:
    made = Client(request.param, process)
    yield made
    made.triton.close()


@pytest.fixture(params=FORMS)
def scenes(request: pytest.FixtureRequest, shaped: InferenceProcess) -> Iterator[Client]:
    made = Client(request.param, shaped)
    yield made
    made.triton.close()


def test_answers_are_those_of_the_original_model(client: Client, rows: pl.DataFrame, wanted: Any) -> None:
    present = rows["wind"].is_not_null()
    answer = client.triton.infer(
        "trips",
        client.columns(rows.filter(present)),
        request_id="r1",
        outputs=[client.module.InferRequestedOutput("probability", **client.form)],
        timeout=30_000_000,
    )
    np.testing.assert_allclose(answer.as_numpy("probability"), wanted[present.to_numpy()], atol=1e-5)
    assert answer.as_numpy("label") is None
    response = answer.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "r1"


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_bodies_may_be_compressed(client: Client, how: str) -> None:
    names = ("compression_algorithm",) if client.module is over_grpc else ("request_compression_algorithm",)
    tensor = client.tensor("x", np.arange(2_000, dtype=np.float32))
    answer = client.triton.infer("plus", [tensor], **dict.fromkeys(names, how))
    assert answer.as_numpy("value").ravel().tolist() == [number + 1.0 for number in range(2_000)]


def test_images_and_token_ids_are_answered(scenes: Client) -> None:
    values = rows_of(3)
    found = scenes.triton.infer("scene", scenes.tensors(values)).as_numpy("value")
    np.testing.assert_allclose(found.ravel(), sums_of(values), rtol=1e-5)
    told = scenes.told("get_model_metadata", "scene")
    shapes = {item["name"]: [int(size) for size in item["shape"]] for item in told["inputs"]}
    assert shapes == {"image": [-1, *SHAPE], "ids": [-1, 4], "scale": [-1]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"image": np.zeros((2, 3, 8, 12), dtype=np.float32)},
            r"'image' has shape \[2, 3, 8, 12\]; .* \[rows, 3, 12, 8\]",
        ),
        ({"ids": np.zeros((2, 5), dtype=np.int64)}, r"'ids' has shape \[2, 5\]; the model takes \[rows, 4\]"),
        ({"scale": np.zeros((2, 2), dtype=np.float32)}, r"'scale' has shape \[2, 2\]"),
        ({"other": np.zeros(2, dtype=np.float32)}, "no input 'other'"),
        ({"scale": np.zeros(3, dtype=np.float32)}, "'scale' has 3 values, where 'image' has 2"),
    ],
)
def test_another_shape_is_an_exception_with_its_reason(scenes: Client, changed: Any, message: str) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        scenes.triton.infer("scene", scenes.tensors({**rows_of(2), **changed}))
    assert str(caught.value.status()) in ("400", "StatusCode.INVALID_ARGUMENT")


def test_server_models_and_versions_are_told(client: Client) -> None:
    triton = client.triton
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("plus")
    assert triton.is_model_ready("plus", "2")
    assert not triton.is_model_ready("plus", "9")
    assert not triton.is_model_ready("gone")
    assert {"statistics", "model_repository"} <= set(client.told("get_server_metadata")["extensions"])
    assert client.told("get_model_metadata", "plus")["versions"] == ["1", "2"]
    config = client.told("get_model_config", "trips")
    assert config.get("config", config)["backend"] == "onnxruntime"
    with pytest.raises(InferenceServerException, match="'gone'"):
        triton.get_model_metadata("gone")


def test_statistics_have_counts_times_and_batches(client: Client) -> None:
    def told() -> Any:
        [entry] = client.told("get_inference_statistics", "plus", "1")["model_stats"]
        return entry

    client.triton.infer("plus", [client.tensor("x", np.ones(3, dtype=np.float32))], model_version="1")
    before = told()
    client.triton.infer("plus", [client.tensor("x", np.ones(3, dtype=np.float32))], model_version="1")
    after = told()
    assert int(after["inference_count"]) - int(before["inference_count"]) == 3
    assert int(after["execution_count"]) - int(before["execution_count"]) == 1
    for piece in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        then, now = before["inference_stats"][piece], after["inference_stats"][piece]
        assert int(now["count"]) - int(then["count"]) == 1
        assert int(now["ns"]) > int(then["ns"])
    assert 3 in {int(item["batch_size"]) for item in after["batch_stats"]}


def test_models_are_listed_unloaded_and_loaded(client: Client) -> None:
    def states() -> set[tuple[str, str, str]]:
        told = client.told("get_model_repository_index")
        return {(item["name"], item["version"], item["state"]) for item in (told["models"] if client.as_json else told)}

    client.triton.unload_model("plus")
    try:
        assert ("plus", "1", "UNAVAILABLE") in states()
        with pytest.raises(InferenceServerException):
            client.triton.infer("plus", [client.tensor("x", np.ones(1, dtype=np.float32))])
    finally:
        client.triton.load_model("plus")
    assert ("plus", "1", "READY") in states()
    with pytest.raises(InferenceServerException, match="'other'"):
        client.triton.load_model("other")


def test_calls_with_a_callback_and_with_a_short_time(process: InferenceProcess) -> None:
    client = Client("grpc", process)
    answers: queue.SimpleQueue[tuple[int, Any, Any]] = queue.SimpleQueue()

    def put(number: int, result: Any, error: Any) -> None:
        answers.put((number, result, error))

    for number in range(100):
        tensor = client.tensor("x", np.array([number], dtype=np.float32))
        client.triton.async_infer("plus", [tensor], partial(put, number), client_timeout=30)
    got = [answers.get(timeout=30) for _ in range(100)]
    assert {number: float(result.as_numpy("value").ravel()[0]) for number, result, _ in got} == {
        number: number + 1.0 for number in range(100)
    }
    with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
        client.triton.infer("plus", [client.tensor("x", np.ones(1, dtype=np.float32))], client_timeout=1e-9)
    client.triton.close()


def test_a_stream_answers_in_order_and_outlives_an_error(process: InferenceProcess) -> None:
    client = Client("grpc", process)
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    client.triton.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(300):
        tensor = client.tensor("x", np.array([number], dtype=np.float32))
        client.triton.async_stream_infer("plus" if number != 25 else "gone", [tensor], request_id=str(number))
    got = [answers.get(timeout=30) for _ in range(300)]
    client.triton.stop_stream()
    client.triton.close()
    assert "no endpoint 'gone'" in str(got.pop(25)[1])
    assert [int(result.get_response().id) for result, _ in got] == [number for number in range(300) if number != 25]
    assert [float(result.as_numpy("value").ravel()[0]) for result, _ in got] == [
        number + 1.0 for number in range(300) if number != 25
    ]


def test_the_clients_for_asyncio_are_answered(process: InferenceProcess) -> None:
    def tensor(module: Any, number: int) -> Any:
        return module.InferInput("x", [1], "FP32").set_data_from_numpy(np.array([number], dtype=np.float32))

    async def ask(module: Any, kinds: Any, address: str) -> list[float]:
        async with module.InferenceServerClient(address) as client:
            assert await client.is_model_ready("plus")
            answers = await asyncio.gather(*(client.infer("plus", [tensor(kinds, number)]) for number in range(20)))
            return [float(answer.as_numpy("value").ravel()[0]) for answer in answers]

    async def stream() -> list[float]:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for number in range(20):
                yield {"model_name": "plus", "inputs": [tensor(over_grpc, number)]}

        async with over_grpc_aio.InferenceServerClient(process.grpc) as client:
            found = [(result, error) async for result, error in client.stream_infer(requests())]
        assert [error for _, error in found if error] == []
        return [float(result.as_numpy("value").ravel()[0]) for result, _ in found]

    expected = [number + 1.0 for number in range(20)]
    assert asyncio.run(ask(over_http_aio, over_http, process.url.removeprefix("http://"))) == expected
    assert asyncio.run(ask(over_grpc_aio, over_grpc, process.grpc)) == expected
    assert asyncio.run(stream()) == expected
