"""MLServer, unmodified, serves what `export mlserver` writes: as the original model, and as we do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import polars as pl
import pytest
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest
from tests.cli.test_commands import run_here
from tests.models.test_shapes import ROWS, graph

from loopwright.models import Bundle, build_bundle

TYPES = {pl.Float64: "FP64", pl.Int64: "INT64", pl.Boolean: "BOOL", pl.String: "BYTES"}


class Server:
    """Where MLServer answers, over HTTP and gRPC."""

    def __init__(self, http: int, grpc: int) -> None:
        self.url, self.grpc = f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}"


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def export(bundle: Bundle, target: Path, *options: str) -> Path:
    told = run_here("export", "mlserver", str(bundle.folder), str(target), *options)
    assert told.code == 0, told
    return target


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLServer with three models of ours in one process, from a folder each."""
    folder = tmp_path_factory.mktemp("models")
    export(bundle, folder / "trips")
    export(bundle, folder / "other", "--name", "other", "--precision", "fp16")  # the same code under its own name
    export(build_bundle(graph(), ROWS, folder=folder.parent / "shapes"), folder / "shapes")
    http, grpc, metrics = free_ports(3)
    settings = {"HOST": "127.0.0.1", "HTTP_PORT": http, "GRPC_PORT": grpc, "METRICS_PORT": metrics}
    settings |= {"PARALLEL_WORKERS": 0, "DEBUG": "false"}
    environ = {**os.environ, **{f"MLSERVER_{name}": str(value) for name, value in settings.items()}}
    log = folder.parent / "mlserver.log"
    with log.open("wb") as out:
        command = [str(Path(sys.executable).with_name("mlserver")), "start", str(folder)]
        # It keeps files where it starts.
        process = subprocess.Popen(command, env=environ, cwd=folder.parent, stdout=out, stderr=out)
    server = Server(http, grpc)
    try:
        end = time.monotonic() + 60
        while not all(ready(server, name) for name in ("trips", "other", "shapes")):
            assert time.monotonic() < end, f"MLServer did not start: {log.read_text()[-3000:]}"
            assert process.poll() is None, f"MLServer ended with {process.returncode}: {log.read_text()[-3000:]}"
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def ready(server: Server, model: str) -> bool:
    try:
        return httpx.get(f"{server.url}/v2/models/{model}/ready").status_code == 200
    except httpx.TransportError:
        return False


def inputs_of(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {"name": item.name, "datatype": TYPES[type(item.dtype)], "shape": [rows.height], "data": item.to_list()}
        for item in rows
    ]


def values_of(outputs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {item["name"]: item["data"] for item in outputs}


def test_it_answers_as_the_original_model_does_and_as_we_do(
    server: Server, web: httpx.Client, rows: pl.DataFrame, wanted: Any
) -> None:
    request = {"id": "7", "inputs": inputs_of(rows)}  # some lack their wind: null
    answers = [
        httpx.post(f"{server.url}/v2/models/trips/infer", json=request),
        httpx.post(f"{server.url}/v2/models/other/infer", json=request),
        web.post("/v2/models/trips/infer", json=request),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200], [answer.text for answer in answers]
    theirs, other, ours = (answer.json() for answer in answers)
    assert theirs["id"] == "7"
    np.testing.assert_allclose(values_of(theirs["outputs"])["probability"], wanted, atol=1e-5)
    wire = [{key: item[key] for key in ("name", "datatype", "shape")} for item in theirs["outputs"]]
    assert sorted(wire, key=str) == sorted(
        ({key: item[key] for key in ("name", "datatype", "shape")} for item in ours["outputs"]), key=str
    )
    for name, values in values_of(ours["outputs"]).items():
        np.testing.assert_array_equal(np.float32(values_of(theirs["outputs"])[name]), np.float32(values))
        np.testing.assert_array_equal(values_of(other["outputs"])[name], values_of(theirs["outputs"])[name])


def test_its_metadata_is_ours(server: Server, web: httpx.Client) -> None:
    theirs, ours = httpx.get(f"{server.url}/v2/models/trips").json(), web.get("/v2/models/trips").json()
    for key in ("inputs", "outputs"):
        found = [{name: item[name] for name in ("name", "datatype", "shape")} for item in theirs[key]]
        assert found == ours[key]
    assert theirs["platform"] == ours["platform"]


def test_columns_of_one_nested_lists_and_one_output_are_taken(server: Server, rows: pl.DataFrame, wanted: Any) -> None:
    inputs = [
        {**item, "shape": [rows.height, 1], "data": [[value] for value in item["data"]]} for item in inputs_of(rows)
    ]
    body = {"inputs": inputs, "outputs": [{"name": "probability"}]}
    [output] = httpx.post(f"{server.url}/v2/models/trips/infer", json=body).json()["outputs"]
    np.testing.assert_allclose(output["data"], wanted, atol=1e-5)


def test_values_with_a_shape_are_answered(server: Server, tmp_path: Path) -> None:
    bundle = build_bundle(graph(), ROWS, folder=tmp_path / "bundle")
    kinds = {"float32": ("FP32", np.float32), "float64": ("FP64", np.float64), "int64": ("INT64", np.int64)}
    columns = {
        item.name: np.array(ROWS[item.name].to_list(), dtype=kinds[item.dtype.value][1])
        for item in bundle.signature.inputs
    }
    inputs = [
        {
            "name": item.name,
            "datatype": kinds[item.dtype.value][0],
            "shape": list(columns[item.name].shape),
            "data": columns[item.name].ravel().tolist(),
        }
        for item in bundle.signature.inputs
    ]
    answer = httpx.post(f"{server.url}/v2/models/shapes/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    found = values_of(answer.json()["outputs"])
    for name, values in bundle.predictor().predict(columns).items():
        np.testing.assert_allclose(found[name], values.ravel(), rtol=1e-6)


def test_its_grpc_answers_alike(server: Server, rows: pl.DataFrame, wanted: Any) -> None:
    whole = rows.filter(pl.col("wind").is_not_null())
    inputs = inputs_of(whole)
    for item in inputs:
        item["data"] = [value.encode() if isinstance(value, str) else value for value in item["data"]]
    request = InferenceRequest(inputs=inputs)
    with grpc.insecure_channel(server.grpc) as channel:
        for raw in (False, True):
            message = ModelInferRequestConverter.from_types(request, model_name="trips", use_raw=raw)
            answer = ModelInferResponseConverter.to_types(
                GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=20)
            )
            [output] = [item for item in answer.outputs if item.name == "probability"]
            np.testing.assert_allclose(list(output.data.root), wanted[rows["wind"].is_not_null().to_numpy()], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": {"data": [1.0, "far"]}}, "column 'distance', row 1: takes a number, not 'far'"),
        ({"hour": {"data": [1, None]}}, "column 'hour', row 1: is missing, and training never saw it missing"),
        ({"distance": {"data": [1.0]}}, "input 'distance' has 1 values in the shape [2]; it takes [-1]"),
        ({"distance": {"shape": [-1]}}, "input 'distance' has 2 values in the shape [-1]"),
        ({"distance": {"shape": [1 << 31]}}, "input 'distance' has 2 values in the shape [2147483648]"),
        ({"distance": {"name": "length"}}, "there is no input 'length'; the model takes distance, wind"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(
    server: Server, rows: pl.DataFrame, change: dict[str, dict[str, Any]], message: str
) -> None:
    inputs = [{**item, **change.get(item["name"], {})} for item in inputs_of(rows.head(2))]
    answer = httpx.post(f"{server.url}/v2/models/trips/infer", json={"inputs": inputs})
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]
