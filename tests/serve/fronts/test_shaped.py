"""Inputs with several values a row, an image and token ids, over every network front; what the log has of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import polars as pl
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from onnx import TensorProto, helper
from tests.serve.conftest import Served
from tests.serve.fronts.test_grpc_serving import TYPES

from loopwright.core import digest_bytes
from loopwright.models import Bundle, build_bundle
from loopwright.serve import InferenceProcess, ServedEndpoint, Variant, read_predictions
from loopwright.serve.arguments import ProcessSettings

pytestmark = pytest.mark.slow

SHAPE = (3, 12, 8)
Rows = dict[str, np.ndarray[Any, Any]]


def scene_bundle(folder: Path) -> Bundle:
    """A model that adds up an image, token ids and a number, each in its own place of the sum."""
    nodes = [
        helper.make_node("ReduceSum", ["image", "picture"], ["a"], keepdims=0),
        helper.make_node("Cast", ["ids"], ["ids_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ids_f", "sequence"], ["b"], keepdims=0),
        helper.make_node("Mul", ["b", "scale"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["sum"]),
    ]
    graph = helper.make_graph(
        nodes,
        "scene",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, *SHAPE]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, [None, 4]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, [None]),
        ],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None])],
        [
            helper.make_tensor("picture", TensorProto.INT64, [3], [1, 2, 3]),
            helper.make_tensor("sequence", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    sample = rows_of(2)
    frame = pl.DataFrame(
        {
            "image": pl.Series(sample["image"], dtype=pl.Array(pl.Float32, SHAPE)),
            "ids": pl.Series(sample["ids"], dtype=pl.Array(pl.Int64, 4)),
            "scale": sample["scale"],
        }
    )
    return build_bundle(model, frame, folder=folder)


def vector_bundle(folder: Path) -> Bundle:
    """A model with a vector alone."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["v", "axis"], ["sum"], keepdims=0)],
        "vector",
        [helper.make_tensor_value_info("v", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    frame = pl.DataFrame({"v": pl.Series([[1.0, 2.0, 3.0]], dtype=pl.Array(pl.Float32, 3))})
    return build_bundle(model, frame, folder=folder)


def rows_of(count: int) -> Rows:
    rng = np.random.default_rng(count)
    return {
        "image": rng.integers(0, 9, size=(count, *SHAPE)).astype(np.float32) / 4,
        "ids": rng.integers(-5, 50, size=(count, 4)),
        "scale": rng.integers(1, 5, size=count).astype(np.float32),
    }


def wanted(rows: Rows) -> list[float]:
    total = rows["image"].sum(axis=(1, 2, 3)) + rows["ids"].sum(axis=1) * rows["scale"]
    return [float(value) for value in total]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("shaped"))


@pytest.fixture(scope="module")
def shaped(served: Served) -> Iterator[InferenceProcess]:
    """Serves `scene` and `vector`."""
    served.publish(
        *(
            ServedEndpoint(
                name, "salt", (Variant("champion", f"model:{name}@1", served.put(make(served.root / name))),)
            )
            for name, make in (("scene", scene_bundle), ("vector", vector_bundle))
        )
    )
    settings = ProcessSettings(
        state=served.state, objects=str(served.root / "objects"), journal=served.journal, grpc_port=0
    )
    running = InferenceProcess.launch(settings, stderr=subprocess.DEVNULL)
    yield running
    running.stop(timeout_s=5)


Ask = Callable[[InferenceProcess, str, Rows], list[float]]


def over_triton(module: Any, address: str, model: str, rows: Rows, **binary: bool) -> list[float]:
    tensors = []
    for name, values in rows.items():
        kind = "INT64" if values.dtype.kind == "i" else "FP32"
        tensors.append(module.InferInput(name, list(values.shape), kind).set_data_from_numpy(values, **binary))
    with module.InferenceServerClient(address) as client:
        found = client.infer(model, tensors).as_numpy("value")
    return [float(value) for value in found.ravel()]


def triton_json(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    return over_triton(over_http, process.url.removeprefix("http://"), model, rows, binary_data=False)


def triton_binary(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    return over_triton(over_http, process.url.removeprefix("http://"), model, rows, binary_data=True)


def triton_grpc(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    return over_triton(over_grpc, process.grpc, model, rows)


def listed(rows: Rows) -> dict[str, Any]:
    return {name: values.tolist() for name, values in rows.items()}


def records(rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(rows, row, strict=True)) for row in zip(*listed(rows).values(), strict=True)]


def post(process: InferenceProcess, path: str, body: Any) -> Any:
    got = httpx.post(f"{process.url}{path}", json=body, timeout=30)
    assert got.status_code == 200, Refused(got.status_code, got.text)
    return got.json()


class Refused(str):
    """A status and a text."""

    def __new__(cls, status: int, text: str) -> Refused:
        return super().__new__(cls, f"{status} {text}")


def v2_nested(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    tensors = [
        {"name": name, "shape": list(values.shape), "datatype": "FP32", "data": values.tolist()}
        for name, values in rows.items()
    ]
    outputs = post(process, f"/v2/models/{model}/infer", {"inputs": tensors})["outputs"]
    return list(outputs[0]["data"])


def tensorflow_rows(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    return list(post(process, f"/v1/models/{model}:predict", {"instances": records(rows)})["predictions"])


def tensorflow_columns(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    return list(post(process, f"/v1/models/{model}:predict", {"inputs": listed(rows)})["outputs"])


def tensorflow_grpc(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    request = TYPES["PredictRequest"](model_spec={"name": model})
    for name, values in rows.items():
        tensor = request.inputs[name]
        tensor.dtype = 9 if values.dtype.kind == "i" else 1
        for size in values.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = values.tobytes()
    with grpc.insecure_channel(process.grpc) as channel:
        ask = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", type(request).SerializeToString)
        answer = TYPES["PredictResponse"].FromString(ask(request, timeout=30))
    return list(answer.outputs["value"].float_val)


def native(process: InferenceProcess, model: str, rows: Rows) -> list[float]:
    found = post(process, f"/endpoints/{model}/predict", {"rows": records(rows)})["predictions"]
    return [item["outputs"]["value"] for item in found]


FRONTS: list[Ask] = [
    triton_json, triton_binary, triton_grpc, v2_nested, tensorflow_rows, tensorflow_columns, tensorflow_grpc, native,
]  # fmt: skip


@pytest.mark.parametrize("ask", FRONTS)
def test_images_and_token_ids_are_answered(shaped: InferenceProcess, ask: Ask) -> None:
    for count in (1, 5):
        rows = rows_of(count)
        np.testing.assert_allclose(ask(shaped, "scene", rows), wanted(rows), rtol=1e-5)
    vectors = {"v": np.array([[1, 2, 3], [4, 5, 6.5]], dtype=np.float32)}
    assert ask(shaped, "vector", vectors) == [6.0, 15.5]


def changed(**values: Any) -> Rows:
    return {**rows_of(2), **values}


WRONG = [
    (
        changed(image=np.zeros((2, 3, 8, 12), dtype=np.float32)),
        r"'image'.*\[(2, )?3, 8, 12\].*takes \[(rows, )?3, 12, 8\]",
    ),
    (changed(image=np.zeros((3, 12, 8), dtype=np.float32)), r"'image'.*\[(3, )?12, 8\].*takes \[(rows, )?3, 12, 8\]"),
    (changed(ids=np.zeros((2, 5), dtype=np.int64)), r"'ids'.*\[(2, )?5\].*takes \[(rows, )?4\]"),
    (changed(ids=np.array([[1, 2, 3, 4], [1, 2, 3, 4.5]], dtype=np.float32)), "'ids', row 1: takes whole numbers"),
    (changed(scale=np.ones((2, 2), dtype=np.float32)), "'scale'.*"),
    ({name: values for name, values in rows_of(2).items() if name != "ids"}, "lacks the input.* ids"),
]


@pytest.mark.parametrize("ask", FRONTS)
@pytest.mark.parametrize(("rows", "message"), WRONG)
def test_another_shape_is_refused_with_the_input_and_the_shape_that_is_due(
    shaped: InferenceProcess, ask: Ask, rows: Rows, message: str
) -> None:
    if ask in (tensorflow_rows, native) and len({len(values) for values in rows.values()}) > 1:
        pytest.skip("records have a value of each input")
    with pytest.raises(Exception, match=message) as caught:
        ask(shaped, "scene", rows)
    assert "500" not in str(caught.value)[:8]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([[1, 2, None]], "row 0: takes numbers, not"),
        ([[1, 2, 3], [1, 2]], "row 1: has shape"),
        ([[1, [2], 3]], "different lengths"),
        ([[1, 2, "x"]], "row 0: takes numbers, not 'x'"),
        ([[1, 2, 10**400]], "takes numbers"),
        ([[1, 2, 1e39]], "row 0: holds a number that is too large"),
        ([1, 2, 3], "row 0: has shape"),
        ([{"v": [1, 2, 3]}, {}], "row 1: is not in the request"),
        ([[[[]]]], "row 0"),
    ],
)
def test_what_is_no_vector_is_refused(shaped: InferenceProcess, body: Any, message: str) -> None:
    for path, name in (("/v1/models/vector:predict", "instances"), ("/endpoints/vector/predict", "rows")):
        text = json.dumps({name: body})
        got = httpx.post(f"{shaped.url}{path}", content=text, headers={"content-type": "application/json"})
        assert got.status_code == 400, got.text
        assert message in got.text or message.replace("'", '"') in got.text


def test_shapes_are_told(shaped: InferenceProcess) -> None:
    meta = httpx.get(f"{shaped.url}/v2/models/scene").json()
    assert {item["name"]: item["shape"] for item in meta["inputs"]} == {
        "image": [-1, *SHAPE],
        "ids": [-1, 4],
        "scale": [-1],
    }
    told = httpx.get(f"{shaped.url}/v1/models/scene/metadata").json()["metadata"]["signature_def"]["signature_def"]
    dims = told["serving_default"]["inputs"]["image"]["tensor_shape"]["dim"]
    assert [int(dim["size"]) for dim in dims] == [-1, *SHAPE]
    refused = httpx.post(f"{shaped.url}/endpoints/scene/predict", json={"rows": records(rows_of(1)), "explain": True})
    assert refused.status_code == 400


def test_the_log_has_short_values_and_the_digest_of_long_ones(shaped: InferenceProcess, served: Served) -> None:
    rows = rows_of(7)
    triton_binary(shaped, "scene", rows)
    batch, cursor = read_predictions(served.journal, None, 100_000)
    found = [item for item in batch if item.endpoint == "scene"][-7:]
    assert cursor is not None
    assert found[0].columns == ("image", "ids", "scale")
    for number, item in enumerate(found):
        image, ids, scale = item.features
        assert image == f"blake3:{digest_bytes(rows['image'][number].tobytes())} float32[3,12,8]"
        assert list(ids) == rows["ids"][number].tolist()
        assert scale == float(rows["scale"][number])
