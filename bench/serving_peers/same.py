"""What all sides have in common: the model, the rows, the forms of a request, and the answers that are right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tracking")]

import msgspec  # noqa: E402 - siblings are found by the line above
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import polars as pl  # noqa: E402

Matrix = npt.NDArray[np.float64]
MODEL = "bench"
BODIES = 64
CLOSE = 1e-5


class Same(msgspec.Struct):
    """The model in a bundle, rows that it has seen, and its own answers to them."""

    bundle: Path
    rows: Matrix
    answers: Matrix

    def part(self, number: int, count: int) -> Matrix:
        """The rows of the request with that number."""
        return self.rows[number * count : (number + 1) * count]

    def right(self, found: list[float], number: int, count: int) -> None:
        """Refuse answers that are not the model's own.

        Raises:
            RuntimeError: they differ by more than CLOSE.
        """
        expected = self.answers[number * count : (number + 1) * count]
        if len(found) != count or not np.allclose(found, expected, rtol=0, atol=CLOSE):
            raise RuntimeError(f"answered {str(found)[:120]}, the model itself says {str(expected.tolist())[:120]}")


def make_same(folder: Path, trees: int = 100) -> Same:
    """LightGBM, trees of 15 leaves over 20 numbers; answers come from LightGBM, not from what was converted."""
    import lightgbm

    from loopwright.models import build_bundle
    from loopwright.models.bundle import Bundle

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4_000, 20)).astype(np.float32).astype(np.float64)
    goal = (rows[:, :3].sum(axis=1) + rng.normal(size=len(rows)) > 0).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=trees, num_leaves=15, verbose=-1, n_jobs=1).fit(rows, goal)
    bundle: Bundle = build_bundle(model, pl.DataFrame(rows, [f"x{number}" for number in range(20)]))
    folder.mkdir(exist_ok=True)
    bundle.folder.rename(folder / MODEL)
    return Same(folder / MODEL, rows, np.asarray(model.predict_proba(rows))[:, 1])


def make_python(folder: Path) -> Same:
    """A model in Python, which runs in a process of its own; its answers from its own arithmetic."""
    from python_model import Slow

    from loopwright.models import build_bundle

    rows = np.random.default_rng(1).normal(size=(4_000, 20)).astype(np.float32).astype(np.float64)
    columns = {f"x{number}": column for number, column in enumerate(rows.T)}
    folder.mkdir(exist_ok=True)
    build_bundle(Slow, pl.DataFrame(columns), folder=folder / MODEL)
    return Same(folder / MODEL, rows, Slow().predict(columns)["probability"])


def v2_json(rows: Matrix) -> bytes:
    """The Open Inference Protocol's request, one tensor."""
    tensor = {"name": "features", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return msgspec.json.encode({"inputs": [tensor]})


def v2_binary(rows: Matrix) -> tuple[bytes, dict[str, str]]:
    """The same with the tensor's bytes behind the JSON, asking for an answer of that form, and the headers it needs."""
    raw = rows.astype("<f4").tobytes()
    about = {"binary_data_size": len(raw)}
    tensor = {"name": "features", "shape": list(rows.shape), "datatype": "FP32", "parameters": about}
    asked = [{"name": "probability", "parameters": {"binary_data": True}}]
    head = msgspec.json.encode({"inputs": [tensor], "outputs": asked})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + raw, headers


def read_v2(body: bytes, length: str | None) -> list[float]:
    """The probabilities of an answer, in JSON or behind it (`length` is the header that tells where)."""
    head = int(length) if length else len(body)
    outputs = [item for item in msgspec.json.decode(body[:head])["outputs"] if item["name"] == "probability"]
    data: list[float] | None = outputs[0].get("data")
    if data is not None:
        return data
    return [float(value) for value in np.frombuffer(body[head:], "<f4")]


def grpc_frame(rows: Matrix) -> bytes:
    """A ModelInferRequest as HTTP/2 carries it: a byte for `not compressed`, its length, and itself."""
    message = grpc_request(rows)
    return b"\0" + len(message).to_bytes(4, "big") + message


def grpc_request(rows: Matrix) -> bytes:
    """A ModelInferRequest with the tensor as raw bytes."""
    kinds = grpc_messages()
    request = kinds["ModelInferRequest"](model_name=MODEL, raw_input_contents=[rows.astype("<f4").tobytes()])
    request.inputs.add(name="features", datatype="FP32", shape=rows.shape)
    request.outputs.add(name="probability")
    found: bytes = request.SerializeToString()
    return found


def read_grpc(body: bytes) -> list[float]:
    """The probabilities of a ModelInferResponse, raw or typed."""
    answer = grpc_messages()["ModelInferResponse"].FromString(body)
    place = [output.name for output in answer.outputs].index("probability")
    if answer.raw_output_contents:
        kind = "<f8" if answer.outputs[place].datatype == "FP64" else "<f4"
        return [float(value) for value in np.frombuffer(answer.raw_output_contents[place], kind)]
    contents = answer.outputs[place].contents
    return list(contents.fp32_contents) or list(contents.fp64_contents)


def grpc_messages() -> dict[str, Any]:
    """The protocol's messages."""
    from loopwright.serve.grpc.protos import messages

    return messages("inference.proto")
