"""Triton's Python backend asks the model in this folder. Needs numpy and onnxruntime in Triton's Python.

`bundle.py` beside this file checks the digest of the graph and the rows, and predicts; see there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton alone has it

_FOLDER = Path(__file__).resolve().parent
_NUMPY = {"bool": np.bool_, "int64": np.int64, "float32": np.float32, "float64": np.float64}


def _edge() -> Any:
    """The code of the folder, under a name of its own: a process may hold several models."""
    spec = spec_from_file_location(f"{__name__}_edge", _FOLDER / "bundle.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{_FOLDER} has no bundle.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TritonPythonModel:
    """The model, as Triton's Python backend calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; Triton reports what is raised as the reason why it is not ready."""
        self.edge = _edge()
        self.model = self.edge.EdgeModel(_FOLDER)
        self.inputs = {item["name"]: item for item in self.model.about["inputs"]}
        self.outputs = self.model.about["outputs"]
        self.batched = int(json.loads(args["model_config"]).get("max_batch_size", 0)) > 0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton joined: in one run, or one by one where a row does not fit."""
        decoded = [self._decoded(request) for request in requests]
        sound = [item for item in decoded if isinstance(item, dict)]
        if len(sound) > 1:
            try:
                answers = iter(self._together(sound))
                return [
                    self._response(next(answers)) if isinstance(item, dict) else self._refused(item) for item in decoded
                ]
            except self.edge.BadInput:
                pass  # the one that does not fit is told so below; the others are answered
        return [self._alone(item) for item in decoded]

    def _decoded(self, request: Any) -> Any:
        """A request's rows by column, or what is wrong with them."""
        columns: dict[str, Any] = {}
        for name, item in self.inputs.items():
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                return f"input {name!r} is missing; the model takes {list(self.inputs)}"
            values = tensor.as_numpy()
            shape = list(item["shape"])
            if self.batched and not shape:
                values = values.reshape(-1)
            if item["dtype"] == "string":
                try:
                    values = np.array([_text(value) for value in values], dtype=object)
                except UnicodeDecodeError as error:
                    return f"input {name!r} holds bytes that are no UTF-8: {error}"
            columns[name] = values
        lengths = {name: len(values) for name, values in columns.items()}
        return columns if len(set(lengths.values())) == 1 else f"the inputs have different numbers of rows: {lengths}"

    def _together(self, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to several requests in one run."""
        joined = {name: np.concatenate([part[name] for part in parts]) for name in self.inputs}
        sizes = [len(next(iter(part.values()))) for part in parts]
        found = self.model.predict(joined)
        ends = np.cumsum(sizes).tolist()
        return [
            {name: values[end - size : end] for name, values in found.items()}
            for size, end in zip(sizes, ends, strict=True)
        ]

    def _alone(self, item: Any) -> Any:
        if not isinstance(item, dict):
            return self._refused(item)
        try:
            return self._response(self.model.predict(item))
        except self.edge.BadInput as error:
            return self._refused(str(error))

    def _refused(self, reason: str) -> Any:
        return pb_utils.InferenceResponse(
            output_tensors=[], error=pb_utils.TritonError(reason, pb_utils.TritonError.INVALID_ARG)
        )

    def _response(self, answer: dict[str, Any]) -> Any:
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor(item["name"], self._encoded(item, answer)) for item in self.outputs]
        )

    def _encoded(self, item: dict[str, Any], answer: dict[str, Any]) -> Any:
        values = np.asarray(answer[item["name"]])
        if item["dtype"] == "string":
            flat = [str(value).encode() for value in values.ravel().tolist()]
            values = np.array(flat, dtype=object).reshape(values.shape)
        else:
            values = values.astype(_NUMPY[item["dtype"]], copy=False)
        return values.reshape(-1, 1) if self.batched and values.ndim == 1 else values


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
