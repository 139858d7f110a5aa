"""TensorFlow Serving over gRPC: Predict, GetModelMetadata and GetModelStatus.

https://github.com/tensorflow/serving, `tensorflow_serving/apis`. A version's label names a variant of the endpoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loopwright.core import DType, Invalid, LoopwrightError
from loopwright.models import Output
from loopwright.serve.block import Array
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.describing import signature_of, versions_of
from loopwright.serve.grpc.call import Call
from loopwright.serve.grpc.calls import count, refuse
from loopwright.serve.grpc.heads import field
from loopwright.serve.grpc.protos import messages, read
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Query
from loopwright.serve.rest.tfserving import SIGNATURE, check_signature, version_of

PREDICTION, MODELS = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
_METADATA = "signature_def"
_IDS, _MOST_IDS = b"loopwright-prediction-ids", 32
_TYPE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
# By TensorFlow's number of a type: the array's, and the field that holds its values.
_TYPES = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    4: ("u1", "int_val"),
    5: ("<i2", "int_val"),
    6: ("i1", "int_val"),
    7: ("", "string_val"),
    9: ("<i8", "int64_val"),
    10: ("?", "bool_val"),
    17: ("<u2", "int_val"),
    22: ("<u4", "uint32_val"),
    23: ("<u8", "uint64_val"),
}
_NUMBERS = {DType.FLOAT32: 1, DType.FLOAT64: 2, DType.STRING: 7, DType.INT64: 9, DType.BOOL: 10}


class Serving:
    """Answers TensorFlow Serving's clients."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._types = messages("serving.proto")

    def predict(self, call: Call, data: bytes) -> None:
        """Predict."""
        plane = self._plane
        plane.admit(call.started_ns)
        request = read(self._types["PredictRequest"], data)
        endpoint = plane.endpoint(request.model_spec.name)
        call.endpoint = endpoint.spec.name
        rows = rows_of(request.inputs, endpoint.intake)
        version = _version(endpoint, request.model_spec)

        def reply(answer: Answer | LoopwrightError) -> None:
            try:
                if isinstance(answer, LoopwrightError):
                    raise answer
                response = self._written(request, answer, endpoint).SerializeToString()
                count(plane, call)
                call.answer(response, field(_IDS, ",".join(answer.ids[:_MOST_IDS]).encode()))
            except Exception as error:  # noqa: BLE001  (answered; others wait for their replies)
                refuse(plane, call, error)

        started_ns, deadline_ns = call.started_ns, call.deadline_ns
        query = Query(endpoint.spec.name, rows, reply, version=version, started_ns=started_ns, deadline_ns=deadline_ns)
        plane.submit(query, endpoint)

    def metadata(self, request: Any) -> Any:
        """GetModelMetadata: of its signatures, which are all the metadata that there is."""
        unknown = [name for name in request.metadata_field if name != _METADATA]
        if unknown or not request.metadata_field:
            fact = f"there is no metadata {unknown[0]!r}" if unknown else "the request names no metadata"
            raise Invalid(fact, next_step=f"ask for {_METADATA!r}")
        endpoint = self._plane.endpoint(request.model_spec.name)
        version = _version(endpoint, request.model_spec) or versions_of(endpoint)[-1]
        signatures = self._types["SignatureDefMap"](signature_def={SIGNATURE: self._signature(endpoint)})
        response = self._types["GetModelMetadataResponse"](model_spec=_spec(endpoint, version))
        response.metadata[_METADATA].type_url = _TYPE_URL
        response.metadata[_METADATA].value = signatures.SerializeToString()
        return response

    def status(self, request: Any) -> Any:
        """GetModelStatus."""
        endpoint = self._plane.endpoint(request.model_spec.name)
        version = _version(endpoint, request.model_spec)
        found = [
            {"version": int(number), "state": "AVAILABLE", "status": {}}
            for number in ([version] if version else reversed(versions_of(endpoint)))
        ]
        return self._types["GetModelStatusResponse"](model_version_status=found)

    def _signature(self, endpoint: LoadedEndpoint) -> Any:
        """The signature as a message: as it is told over HTTP, but for sizes, which are numbers here."""
        told = signature_of(endpoint)
        for info in (*told["inputs"].values(), *told["outputs"].values()):
            for dim in info["tensor_shape"]["dim"]:
                dim["size"] = int(dim["size"])
        return self._types["SignatureDef"](**told)

    def _written(self, request: Any, answer: Answer, endpoint: LoadedEndpoint) -> Any:
        loaded = answer.query.parts[0].loaded
        response = self._types["PredictResponse"](model_spec=_spec(endpoint, loaded.version))
        outputs = {item.name: item for item in loaded.predictor.signature.outputs}
        for name in request.output_filter:
            if name not in outputs:
                raise Invalid(f"there is no output {name!r}", next_step=f"the model gives {', '.join(outputs)}")
        arrays = answer.arrays()
        for name in request.output_filter or outputs:
            _fill(response.outputs[name], outputs[name], arrays[name], len(answer.ids))
        return response


def rows_of(inputs: Any, intake: Intake) -> Rows:
    """Rows from named tensors: one per input, of shape [rows] or [rows, 1], or one of [rows, inputs] for all.

    Raises:
        Invalid: a tensor or value does not fit; the tensor and the row are named.
    """
    if not inputs:
        raise Invalid("the request has no inputs", next_step=f"the model takes {', '.join(intake.names)}")
    if intake.shaped:
        return intake.block({name: _array(name, tensor) for name, tensor in inputs.items()})
    if len(inputs) == 1:
        [(name, tensor)] = inputs.items()
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if len(shape) == 2 and (shape[1] != 1 or name not in intake.positions):
            return intake.block_of_matrix(name, _array(name, tensor))
    return intake.block({name: _column(name, tensor) for name, tensor in inputs.items()})


def _column(name: str, tensor: Any) -> Array:
    found = _array(name, tensor)
    if found.ndim == 0 or found.size != len(found):
        raise Invalid(f"input {name!r} has shape {list(found.shape)}; a column has shape [rows] or [rows, 1]")
    return found.ravel()


def _array(name: str, tensor: Any) -> Array:
    kind, field = _TYPES.get(tensor.dtype, ("", ""))
    if not field:
        raise Invalid(f"input {name!r} has dtype {tensor.dtype}, which is not taken here")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if min(shape, default=1) < 0:
        raise Invalid(f"input {name!r} has shape {shape}")
    size = int(np.prod(shape, dtype=object))
    if tensor.tensor_content and kind:
        width = np.dtype(kind).itemsize
        if len(tensor.tensor_content) != size * width:
            raise Invalid(
                f"input {name!r} has {len(tensor.tensor_content)} bytes; its shape {shape} takes {size * width}"
            )
        return np.frombuffer(tensor.tensor_content, dtype=kind).reshape(shape)
    values = list(getattr(tensor, field))
    if len(values) == 1 and 1 < size <= 1 << 20:
        values *= size  # one value stands for all, as TensorFlow packs a constant
    if len(values) != size:
        raise Invalid(f"input {name!r} has shape {shape} and {len(values)} values")
    found = np.empty(size, dtype=kind or object)
    found[:] = values
    return found.reshape(shape)


def _version(endpoint: LoadedEndpoint, spec: Any) -> str:
    """The version that is asked for; "" for none.

    Raises:
        Invalid: the signature is another than the one there is.
        NotFound: the version is not served.
    """
    check_signature(spec.signature_name)
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        return version_of(endpoint, {"label": spec.version_label})
    return version_of(endpoint, {"version": str(spec.version.value)}) if choice else ""


def _spec(endpoint: LoadedEndpoint, version: str) -> dict[str, Any]:
    return {"name": endpoint.spec.name, "version": {"value": int(version)}, "signature_name": SIGNATURE}


def _fill(tensor: Any, output: Output, values: Array, rows: int) -> None:
    tensor.dtype = _NUMBERS[output.dtype]
    for size in (rows, *output.shape):
        tensor.tensor_shape.dim.add(size=size)
    kind, field = _TYPES[tensor.dtype]
    if kind:
        getattr(tensor, field).extend(values.astype(kind, copy=False).ravel().tolist())
    else:
        tensor.string_val.extend(str(value).encode() for value in values.ravel().tolist())
