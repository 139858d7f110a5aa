"""NVIDIA's Triton, unmodified, serves what `export triton` writes: as the original model, and as we do.

It is the server of the nvidia-pytriton wheel, which brings the Python backend and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tests.cli.test_commands import run_here
from tests.models.test_shapes import ROWS, graph
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from loopwright.models import Bundle, build_bundle

TYPES = {pl.Float64: "FP64", pl.Int64: "INT64", pl.Boolean: "BOOL", pl.String: "BYTES"}
BAD_WIND = "column 'wind', row 1: takes a number, not inf"


def tensors(rows: pl.DataFrame, *, column: bool = False) -> list[InferInput]:
    """A tensor per column, with a row per row."""
    made = []
    for item in rows:
        values = item.to_numpy() if item.dtype != pl.String else np.array(item.to_list(), dtype=object)
        values = values.reshape(-1, 1) if column else values
        tensor = InferInput(item.name, list(values.shape), TYPES[type(item.dtype)])
        tensor.set_data_from_numpy(values)
        made.append(tensor)
    return made


def export(bundle: Bundle, target: Path, *options: str) -> Path:
    told = run_here("export", "triton", str(bundle.folder), str(target), *options)
    assert told.code == 0, told
    return target


@pytest.fixture(scope="module")
def triton(start: Callable[[Path], Any], bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Triton with `trips` in the tensors that we take, and `joined`, whose requests it may join."""
    folder = tmp_path_factory.mktemp("repository")
    repository = export(bundle, folder / "one")
    joined = export(bundle, folder / "two", "--name", "joined", "--max-batch-size", "64")
    (joined / "joined").rename(repository / "joined")
    shapes = build_bundle(graph(), ROWS, folder=folder / "shapes")
    (export(shapes, folder / "three") / "shapes").rename(repository / "shapes")
    changed = export(bundle, folder / "four", "--name", "changed") / "changed"
    with (changed / "1" / "model.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\x01")
    changed.rename(repository / "changed")
    return start(repository)


def test_it_answers_as_the_original_model_does(triton: Any, rows: pl.DataFrame, wanted: Any) -> None:
    client = InferenceServerClient(triton.address)
    found = client.infer("trips", tensors(rows)).as_numpy("probability")
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    found = client.infer("joined", tensors(rows, column=True)).as_numpy("probability")
    np.testing.assert_allclose(found, wanted.reshape(-1, 1), atol=1e-5)


def test_the_same_request_gets_the_same_outputs_from_us(triton: Any, web: httpx.Client, rows: pl.DataFrame) -> None:
    whole = rows.drop_nulls()
    inputs = [
        {"name": item.name, "datatype": TYPES[type(item.dtype)], "shape": [whole.height], "data": item.to_list()}
        for item in whole
    ]
    theirs = httpx.post(f"{triton.url}/v2/models/trips/infer", json={"inputs": inputs}).json()["outputs"]
    ours = web.post("/v2/models/trips/infer", json={"inputs": inputs}).json()["outputs"]
    assert {item["name"]: item["shape"] for item in theirs} == {item["name"]: item["shape"] for item in ours}
    values = {item["name"]: item for item in ours}
    for item in theirs:
        assert item["datatype"] == values[item["name"]]["datatype"]
        np.testing.assert_array_equal(np.float32(item["data"]), np.float32(values[item["name"]]["data"]))


def test_its_metadata_is_ours(triton: Any, web: httpx.Client) -> None:
    theirs = httpx.get(f"{triton.url}/v2/models/trips").json()
    ours = web.get("/v2/models/trips").json()
    for key in ("inputs", "outputs"):
        assert theirs[key] == ours[key]


def test_values_with_a_shape_are_answered(triton: Any, tmp_path: Path) -> None:
    client = InferenceServerClient(triton.address)
    bundle = build_bundle(graph(), ROWS, folder=tmp_path / "bundle")
    made, columns = [], {}
    for item in bundle.signature.inputs:
        dtype = {"float32": np.float32, "float64": np.float64, "int64": np.int64}[item.dtype.value]
        columns[item.name] = np.array(ROWS[item.name].to_list(), dtype=dtype)
        wire = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}[item.dtype.value]
        tensor = InferInput(item.name, list(columns[item.name].shape), wire)
        tensor.set_data_from_numpy(columns[item.name])
        made.append(tensor)
    found = client.infer("shapes", made)
    for name, values in bundle.predictor().predict(columns).items():
        np.testing.assert_allclose(found.as_numpy(name), values, rtol=1e-6)


def test_a_row_that_does_not_fit_is_named_and_spoils_no_other_request(
    triton: Any, rows: pl.DataFrame, wanted: Any
) -> None:
    pair = rows.head(2)
    bad = pair.with_columns(wind=pl.Series([1.0, float("inf")]))

    def ask(number: int) -> Any:
        with_bad = number % 8 == 3
        client = InferenceServerClient(triton.address)
        try:
            answer = client.infer("joined", tensors(bad if with_bad else pair, column=True))
        except InferenceServerException as error:
            return error.message()
        return answer.as_numpy("probability").ravel()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    for number, answer in enumerate(answers):
        if number % 8 == 3:
            assert BAD_WIND in answer
        else:
            np.testing.assert_allclose(answer, wanted[:2], atol=1e-5)
    stats = httpx.get(f"{triton.url}/v2/models/joined/stats").json()["model_stats"][0]
    assert int(stats["execution_count"]) < int(stats["inference_count"])  # it joined some


def test_a_missing_input_and_text_that_is_none_are_refused(triton: Any, rows: pl.DataFrame) -> None:
    client = InferenceServerClient(triton.address)
    with pytest.raises(InferenceServerException, match="carrier"):
        client.infer("trips", [item for item in tensors(rows) if item.name() != "carrier"])
    spoilt = [item for item in tensors(rows.head(1)) if item.name() != "carrier"]
    text = InferInput("carrier", [1], "BYTES")
    text.set_data_from_numpy(np.array([b"\xff\xfe"], dtype=object))
    with pytest.raises(InferenceServerException, match="input 'carrier' holds bytes that are no UTF-8"):
        client.infer("trips", [*spoilt, text])


def test_a_changed_graph_is_not_loaded(triton: Any) -> None:
    assert triton.is_ready("trips")
    assert not triton.is_ready("changed")
    assert "model.onnx is not what was exported" in triton.log.read_text()


def test_the_export_tells_what_it_made_and_refuses_what_has_no_place(bundle: Bundle, tmp_path: Path) -> None:
    told = run_here("export", "triton", str(bundle.folder), str(tmp_path / "out"), "--json")
    assert told.json()["path"] == str(tmp_path / "out")
    again = run_here("export", "triton", str(bundle.folder), str(tmp_path / "out"))
    assert (again.code, "is there already" in again.err) == (3, True)
    told = run_here("export", "triton", str(bundle.folder), str(tmp_path / "x"), "--name", "../up")
    assert (told.code, "../up" in told.err) == (2, True)
    assert not (tmp_path / "up").exists()
