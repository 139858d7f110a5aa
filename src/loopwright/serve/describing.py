"""What an endpoint is and has done, in the words of the Open Inference Protocol V2 and of Triton's extensions of it."""

from __future__ import annotations

from typing import Any

from loopwright.core import DType
from loopwright.models import DATATYPES
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.statistics import Runs, VersionRuns

PLATFORM = "onnxruntime_onnx"
CONFIG_TYPES = {
    DType.BOOL: "TYPE_BOOL",
    DType.INT64: "TYPE_INT64",
    DType.FLOAT32: "TYPE_FP32",
    DType.FLOAT64: "TYPE_FP64",
    DType.STRING: "TYPE_STRING",
}
TENSORFLOW_TYPES = {
    DType.BOOL: "DT_BOOL",
    DType.INT64: "DT_INT64",
    DType.FLOAT32: "DT_FLOAT",
    DType.FLOAT64: "DT_DOUBLE",
    DType.STRING: "DT_STRING",
}


def versions_of(endpoint: LoadedEndpoint) -> list[str]:
    """The model versions that an endpoint serves, in order."""
    return sorted({item.version for item in endpoint.variants}, key=int)


def metadata_of(endpoint: LoadedEndpoint) -> dict[str, Any]:
    """The metadata of an endpoint: the first dimension of each tensor is the row."""
    inputs = [
        {"name": column.name, "datatype": DATATYPES[column.dtype], "shape": [-1, *column.shape]}
        for column in endpoint.intake.columns
    ]
    signature = endpoint.live[0].predictor.signature
    outputs = [
        {"name": item.name, "datatype": DATATYPES[item.dtype], "shape": [-1, *item.shape]} for item in signature.outputs
    ]
    return {
        "name": endpoint.spec.name,
        "versions": versions_of(endpoint),
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    }


def config_of(endpoint: LoadedEndpoint) -> dict[str, Any]:
    """The configuration that Triton would have for the endpoint: the first dimension of each tensor is the row."""
    inputs = [
        {"name": column.name, "data_type": CONFIG_TYPES[column.dtype], "dims": [-1, *column.shape]}
        for column in endpoint.intake.columns
    ]
    outputs = [
        {"name": item.name, "data_type": CONFIG_TYPES[item.dtype], "dims": [-1, *item.shape]}
        for item in endpoint.live[0].predictor.signature.outputs
    ]
    return {
        "name": endpoint.spec.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [int(version) for version in versions_of(endpoint)]}},
        "max_batch_size": 0,
        "input": inputs,
        "output": outputs,
        "parameters": {},
    }


def statistics_of(endpoint: LoadedEndpoint, runs: Runs, version: str = "") -> list[dict[str, Any]]:
    """What each version of an endpoint has answered; of one version if it is named.

    Rows (`inference_count`) are those of shadows, too, of which nobody waits for the answer. A request that was refused
    before a version was chosen for it, as it could not be read or fitted no input, is none of a version's: `/metrics`
    has it.
    """
    name, none = endpoint.spec.name, VersionRuns()
    numbers = [version] if version else versions_of(endpoint)
    return [{"name": name, "version": number, **runs.get((name, number), none).told()} for number in numbers]


def signature_of(endpoint: LoadedEndpoint) -> dict[str, Any]:
    """The endpoint as a signature of TensorFlow; the first dimension of each tensor is the row."""
    inputs = {column.name: _tensor_info(column.name, column.dtype, column.shape) for column in endpoint.intake.columns}
    outputs = {
        item.name: _tensor_info(item.name, item.dtype, item.shape)
        for item in endpoint.live[0].predictor.signature.outputs
    }
    return {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}


def _tensor_info(name: str, dtype: DType, shape: tuple[int, ...]) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in (-1, *shape)]
    kind = TENSORFLOW_TYPES[dtype]
    return {"dtype": kind, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": name}
