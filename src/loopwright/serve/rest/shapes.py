"""What each protocol's requests and answers look like, as JSON Schema, for the description of the process's API."""

from __future__ import annotations

from typing import Any

from loopwright.models import DATATYPES

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
_OBJECT: Schema = {"type": "object"}
_NAMES: Schema = {"type": "array", "items": TEXT}
_ROW: Schema = {"description": "A row: its values by input, in the order of the inputs, or of the only one."}
_PREDICTIONS: Schema = {"type": "array", "description": "A value per row, or a record where there are several outputs."}


def record(required: Schema, optional: Schema | None = None) -> Schema:
    """An object; it may have other members, too."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def listed(items: Schema, least: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": items} | ({"minItems": least} if least else {})


_SHAPE = listed({"type": "integer", "minimum": 0}, 1)
_TYPES = sorted({*DATATYPES.values(), "FP16", "BF16", "INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "UINT64"})
_TENSOR = record(
    {"name": TEXT, "datatype": {"enum": _TYPES}, "shape": _SHAPE, "data": {"type": "array"}},
    {"parameters": _OBJECT},
)
_ANSWERED = record({"name": TEXT, "datatype": TEXT, "shape": _SHAPE}, {"data": {"type": "array"}})
_COLUMN = record({"name": TEXT, "datatype": TEXT, "shape": listed({"type": "integer"})})
_PREDICTION = record({"id": TEXT, "outputs": _OBJECT, "variant": TEXT, "model": TEXT})
_MODEL = record({"modelName": TEXT, "modelUrl": TEXT})
_TF_STATUS = record({"version": TEXT, "state": TEXT, "status": _OBJECT})
_SPLIT = record({"columns": _NAMES, "data": listed(_ROW)}, {"index": {"type": "array"}})
_KEY: Schema = {"anyOf": [TEXT, {"type": "integer"}, {"type": "array"}], "description": "Who the rows belong to."}

COMPONENTS: dict[str, Schema] = {
    "V2Request": record(
        {"inputs": listed(_TENSOR, 1)},
        {"id": TEXT, "parameters": _OBJECT, "outputs": listed(record({"name": TEXT}, {"parameters": _OBJECT}))},
    ),
    "V2Answer": record(
        {"model_name": TEXT, "model_version": TEXT, "outputs": listed(_ANSWERED)}, {"id": TEXT, "parameters": _OBJECT}
    ),
    "V2Server": record({"name": TEXT, "version": TEXT, "extensions": _NAMES}),
    "V2Model": record(
        {"name": TEXT, "versions": _NAMES, "platform": TEXT, "inputs": listed(_COLUMN), "outputs": listed(_COLUMN)}
    ),
    "V2Live": record({"live": {"const": True}}),
    "V2Ready": record({"ready": {"type": "boolean"}, "revision": {"type": "integer"}}),
    "V2ModelReady": record({"name": TEXT, "ready": {"const": True}}),
    "TritonConfig": record({"name": TEXT, "max_batch_size": {"type": "integer"}, "input": {}, "output": {}}),
    "TritonStatistics": record({"model_stats": listed(record({"name": TEXT, "version": TEXT}))}),
    "TritonIndexRequest": record({}, {"ready": {"type": "boolean"}}),
    "TritonIndex": listed(record({"name": TEXT, "version": TEXT, "state": TEXT, "reason": TEXT})),
    "TritonLoadRequest": record({}, {"parameters": {"type": "object", "maxProperties": 0}}),
    "TritonRegions": listed(_OBJECT),
    "Endpoint": record({"name": TEXT, "versions": _NAMES, "inputs": listed(_OBJECT)}),
    "PredictRequest": {
        **record(
            {},
            {
                "rows": listed(_ROW, 1),
                "columns": {"type": "object", "additionalProperties": {"type": "array"}},
                "keys": {"anyOf": [_OBJECT, listed(_OBJECT)], "description": "By which the features are looked up."},
                "key": _KEY,
                "event_time": {"anyOf": [TEXT, {"type": "integer"}, {"type": "array"}]},
                "explain": {
                    "anyOf": [
                        {"type": "boolean"},
                        record({}, {"output": TEXT, "pairs": {"type": "integer", "minimum": 2, "maximum": 256}}),
                    ]
                },
            },
        ),
        "additionalProperties": False,
    },
    "Predictions": record({"predictions": listed(_PREDICTION)}),
    "Accepted": record({"accepted": {"type": "integer"}}),
    "TensorFlowPredictRequest": {
        **record({}, {"signature_name": TEXT, "instances": listed(_ROW, 1), "inputs": {}}),
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    },
    "TensorFlowPredictions": {
        "type": "object",
        "oneOf": [record({"predictions": _PREDICTIONS}), record({"outputs": {}})],
    },
    "TensorFlowExamples": record({"examples": listed(_OBJECT, 1)}, {"signature_name": TEXT, "context": _OBJECT}),
    "TensorFlowResults": record({"results": {"type": "array"}}),
    "TensorFlowStatus": record({"model_version_status": listed(_TF_STATUS)}),
    "TensorFlowMetadata": record({"model_spec": _OBJECT, "metadata": _OBJECT}),
    "ScoringRequest": {
        "oneOf": [
            record({"dataframe_split": _SPLIT}),
            record({"dataframe_records": listed(_ROW, 1)}),
            record({"instances": listed(_ROW, 1)}),
            record({"inputs": {}}),
        ],
        "description": "Rows in one of MLflow's or SageMaker's forms.",
    },
    "Scored": {"description": "The predictions: as a list where the rows came as a list, else in an object."},
    "Models": record({"models": listed(_MODEL)}, {"nextPageToken": TEXT}),
    "Model": _MODEL,
    "LoadModel": record({"model_name": TEXT}, {"url": TEXT}),
    "Nothing": {"type": "object", "maxProperties": 0},
    "VertexRequest": record(
        {"instances": listed(_ROW, 1)}, {"parameters": {**record({}, {"key": {}, "version": {}}), "type": "object"}}
    ),
    "VertexAnswer": record({"predictions": _PREDICTIONS, "deployedModelId": TEXT, "model": TEXT}),
    "AzureRequest": {
        "anyOf": [record({"input_data": {}}), record({"data": {}}), record({"inputs": {}}), listed(_ROW, 1)],
        "description": "Rows as Azure ML's clients send them.",
    },
    "AzureAnswer": _PREDICTIONS,
    "Feedback": {"description": "What came of predictions, by their ids."},
    "Refused": record({"error": TEXT}),
    "MlflowRefused": record({"error_code": TEXT, "message": TEXT}),
    "AwsRefused": record({"__type": TEXT, "message": TEXT}),
    "VertexRefused": record({"error": record({"code": {"type": "integer"}, "message": TEXT, "status": TEXT})}),
    "AzureRefused": record({"error": record({"code": TEXT, "message": TEXT})}),
}


def schema(name: str) -> Schema:
    """A named shape, as an operation refers to it."""
    return {"$ref": f"#/components/schemas/{name}"}
