"""MLServer asks the model in this folder. Needs mlserver, numpy and onnxruntime.

`bundle.py` beside this file checks the digest of the graph and the rows, and predicts; see there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import mlserver.errors  # type: ignore[import-not-found]  # MLServer alone has it
import numpy as np
from mlserver import types

_FOLDER = Path(__file__).resolve().parent
_DATATYPES = {"bool": "BOOL", "int64": "INT64", "float32": "FP32", "float64": "FP64", "string": "BYTES"}


def _edge() -> Any:
    """The code of the folder, under a name of its own: a process may hold several models."""
    spec = spec_from_file_location(f"{__name__}_edge", _FOLDER / "bundle.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{_FOLDER} has no bundle.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Runtime(mlserver.MLModel):  # type: ignore[misc]  # MLServer is not here to be looked at
    """The model, as MLServer calls it."""

    async def load(self) -> bool:
        """Load the model; MLServer reports what is raised."""
        self.edge = _edge()
        self.model = self.edge.EdgeModel(_FOLDER)
        self.columns = {item["name"]: item for item in self.model.about["inputs"]}
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answer a request; beside the event loop, which answers whether the server lives meanwhile."""
        columns = {tensor.name: self._decoded(tensor) for tensor in payload.inputs}
        try:
            answer = await asyncio.to_thread(self.model.predict, columns)
        except self.edge.BadInput as error:
            raise mlserver.errors.InferenceError(str(error)) from None
        wanted = {output.name for output in payload.outputs or ()} or set(answer)
        unknown = sorted(wanted - set(answer))
        if unknown:
            raise mlserver.errors.InferenceError(
                f"there is no output {', '.join(unknown)}; the model gives {', '.join(answer)}"
            )
        outputs = [self._encoded(item, answer) for item in self.model.about["outputs"] if item["name"] in wanted]
        return types.InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)

    def _decoded(self, tensor: types.RequestInput) -> Any:
        """The values of a tensor, a value per row: [rows] or [rows, 1], and [rows, ...] where a value has a shape.

        Raises:
            InferenceError: they are not as many as the shape says, or the shape does not fit.
        """
        item = self.columns.get(tensor.name)
        if item is None:
            raise mlserver.errors.InferenceError(
                f"there is no input {tensor.name!r}; the model takes {', '.join(self.columns)}"
            )
        values = [_plain(tensor.name, value) for value in _flat(tensor.data.root)]
        count, size = math.prod(tensor.shape), math.prod(item["shape"])
        if not tensor.shape or min(tensor.shape) < 0 or count != len(values) or tensor.shape[0] * size != count:
            wanted = [-1, *item["shape"]]
            raise mlserver.errors.InferenceError(
                f"input {tensor.name!r} has {len(values):,} values in the shape {tensor.shape}; it takes {wanted}"
            )
        if not item["shape"]:
            return values
        rows = range(0, count, size) if size else ()
        return [_shaped(values[start : start + size], list(item["shape"])) for start in rows]

    def _encoded(self, item: dict[str, Any], answer: dict[str, Any]) -> types.ResponseOutput:
        values = np.asarray(answer[item["name"]])
        return types.ResponseOutput(
            name=item["name"],
            datatype=_DATATYPES[item["dtype"]],
            shape=list(values.shape),
            data=[None if value != value else value for value in values.ravel().tolist()],
        )


def _plain(name: str, value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise mlserver.errors.InferenceError(f"input {name!r} holds bytes that are no UTF-8: {error}") from None


def _flat(values: Any) -> Iterator[Any]:
    """The values of lists in lists, in order."""
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _shaped(values: list[Any], shape: list[int]) -> Any:
    """Values in order as lists in lists."""
    if len(shape) == 1:
        return values
    size = len(values) // shape[0] if shape[0] else 0
    return [_shaped(values[place * size : (place + 1) * size], shape[1:]) for place in range(shape[0])]
