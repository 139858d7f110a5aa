"""The OpenAPI 3.1 description of the inference process, made from the table of routes and what is served now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from loopwright import __version__
from loopwright.serve.rest.routing import Route
from loopwright.serve.rest.shapes import COMPONENTS, schema

_MOST_NAMES = 100
_JSON, _BINARY, _TEXT = "application/json", "application/octet-stream", "text/plain"
_CSV, _LINES = "text/csv", "application/jsonlines"
_REASONS = {
    400: "The request does not fit: the message names the input, and the row where it is one row's fault.",
    403: "The process does not answer for this host, or not to pages of another site.",
    404: "There is no such model, version, label or path.",
    409: "The model's state does not allow it.",
    413: "The body is larger than the process takes.",
    503: "Not now: too much waits, the model is not ready, or the time was up. Ask again.",
}
_ALWAYS = (400, 403, 413, 503)
_REFUSALS = {
    "mlflow_refusal": "MlflowRefused",
    "aws_refusal": "AwsRefused",
    "loopwright.serve.rest.vertex": "VertexRefused",
    "loopwright.serve.rest.azureml": "AzureRefused",
}


class Told(NamedTuple):
    """What a handler takes and gives.

    Attributes:
        protocol: whose it is.
        summary: what it does.
        takes: the shape of the body; empty where it reads none.
        gives: the shape of the answer as JSON; empty where it is text, or nothing.
        forms: content types of the body and of the answer, besides JSON.
        more: statuses, besides those that every request may get.
        needs_body: whether the body may be left out.
    """

    protocol: str
    summary: str
    takes: str = ""
    gives: str = ""
    forms: Sequence[str] = ()
    more: Sequence[int] = ()
    needs_body: bool = True


_V2, _TRITON, _TF = "Open Inference Protocol V2", "Triton's extensions of V2", "TensorFlow Serving"
_OWN, _AWS, _MLFLOW = "Loopwright", "SageMaker", "MLflow scoring, and SageMaker"
_TOLD = {
    "Infer.infer": Told(_V2, "Predict.", "V2Request", "V2Answer", (_BINARY,)),
    "V2Models._server": Told(_V2, "Describe the server.", gives="V2Server"),
    "V2Models._live": Told(_V2, "Whether the process lives.", gives="V2Live"),
    "V2Models._is_ready": Told(_V2, "Whether the process takes requests.", gives="V2Ready"),
    "V2Models._metadata": Told(_V2, "Describe a model.", gives="V2Model"),
    "V2Models._model_ready": Told(_V2, "Whether a model answers.", gives="V2ModelReady"),
    "V2Models._config": Told(_TRITON, "Tell a model's configuration.", gives="TritonConfig"),
    "V2Models._statistics": Told(_TRITON, "Tell what models have answered.", gives="TritonStatistics"),
    "V2Models._index": Told(_TRITON, "List the models.", "TritonIndexRequest", "TritonIndex", needs_body=False),
    "V2Models._load": Told(_TRITON, "Make a published model ready.", "TritonLoadRequest", needs_body=False),
    "V2Models._unload": Told(_TRITON, "Answer for a model no more."),
    "_no_regions": Told(_TRITON, "List the regions of shared memory: there are none.", gives="TritonRegions"),
    "_refuse_region": Told(_TRITON, "Refuse a region of shared memory."),
    "_nothing": Told(_TRITON, "Forget a region of shared memory: there is none."),
    "Native._described": Told(_OWN, "Describe an endpoint.", gives="Endpoint"),
    "Native._predict": Told(_OWN, "Predict.", "PredictRequest", "Predictions"),
    "Native._take_feedback": Told(_OWN, "Tell what came of predictions.", "Feedback", "Accepted", more=(409,)),
    "TensorFlowServing._predict": Told(_TF, "Predict.", "TensorFlowPredictRequest", "TensorFlowPredictions"),
    "TensorFlowServing._classify": Told(_TF, "Predict classes.", "TensorFlowExamples", "TensorFlowResults"),
    "TensorFlowServing._regress": Told(_TF, "Predict numbers.", "TensorFlowExamples", "TensorFlowResults"),
    "TensorFlowServing._status": Told(_TF, "Tell the versions.", gives="TensorFlowStatus"),
    "TensorFlowServing._metadata": Told(_TF, "Tell the signature.", gives="TensorFlowMetadata"),
    "Invocations.ping": Told(_MLFLOW, "Whether the process takes requests.", forms=(_TEXT,)),
    "Invocations._version": Told(_MLFLOW, "Tell the version.", forms=(_TEXT,)),
    "Invocations._invoke": Told(_MLFLOW, "Predict.", "ScoringRequest", "Scored", (_CSV, _LINES)),
    "Invocations._invoke_aws": Told(_AWS, "Predict.", "ScoringRequest", "Scored", (_CSV, _LINES)),
    "MultiModel._list": Told(_AWS, "List the loaded models.", gives="Models"),
    "MultiModel._load": Told(_AWS, "Load a published model.", "LoadModel", "Model", more=(404, 409)),
    "MultiModel._get": Told(_AWS, "Whether a model is loaded.", gives="Model"),
    "MultiModel._unload": Told(_AWS, "Unload a model.", gives="Nothing"),
    "MultiModel._invoke": Told(_AWS, "Predict.", "ScoringRequest", "Scored", (_CSV, _LINES)),
    "Vertex._predict": Told("Vertex AI", "Predict.", "VertexRequest", "VertexAnswer"),
    "_alive": Told("Azure ML", "Whether the process lives.", forms=(_TEXT,)),
    "AzureMl._score": Told("Azure ML", "Predict.", "AzureRequest", "AzureAnswer"),
    "App._metrics": Told("Prometheus", "Tell the figures.", forms=(_TEXT,)),
    "App._openapi": Told("OpenAPI", "Tell this description.", gives="Description"),
}


def describe(routes: Iterable[Route], names: Iterable[str]) -> dict[str, Any]:
    """The description of every route.

    Args:
        names: of the models that the process knows; a path's model is one of the first 100 of them.

    Raises:
        KeyError: nothing is told of a handler; a defect of this file.
    """
    known = sorted(names)
    paths: dict[str, Any] = {}
    for route in routes:
        # The path of a contract may be one that is there already; the first of them answers.
        paths.setdefault(route.path, {}).setdefault(route.method.lower(), _operation(route, known))
    schemas = COMPONENTS | {"Description": {"type": "object"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loopwright, the inference process", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(route: Route, names: Sequence[str]) -> dict[str, Any]:
    told = _TOLD[getattr(route.handler, "__qualname__", "")]
    parts = re.findall(r"\{(\w+)\}", route.path)
    entry: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()} {route.path}").strip("_"),
        "summary": told.summary,
        "tags": [told.protocol],
        "parameters": [_parameter(part, names) for part in parts],
        "responses": _responses(route, told, has_names=bool(parts)),
    }
    if told.takes:
        others: dict[str, Any] = {form: {} for form in told.forms}
        content = {_JSON: {"schema": schema(told.takes)}, **others}
        entry["requestBody"] = {"required": told.needs_body, "content": content}
    return entry


def _parameter(name: str, names: Sequence[str]) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "string", "pattern": "^[^/:]+$"}
    if name == "model" and 0 < len(names) <= _MOST_NAMES:
        kind["enum"] = list(names)
    return {"name": name, "in": "path", "required": True, "schema": kind}


def _responses(route: Route, told: Told, *, has_names: bool) -> dict[str, Any]:
    refused = _REFUSALS.get(route.refusal.__name__) or _REFUSALS.get(route.refusal.__module__, "Refused")
    names_model = has_names or bool(told.takes)
    found: dict[str, Any] = {"200": _answer(told)}
    for status in sorted({*_ALWAYS, *told.more, *((404,) if names_model else ())}):
        kinds = [schema(refused), schema("Refused")]  # what no path takes is refused as V2 does it
        content: dict[str, Any] = {_JSON: {"schema": {"anyOf": kinds} if status == 404 else kinds[0]}}
        if status == 503 and told.summary.startswith("Whether the process takes"):
            content = _answer(told)["content"]
        found[str(status)] = {"description": _REASONS[status], "content": content}
    return found


def _answer(told: Told) -> dict[str, Any]:
    content: dict[str, Any] = {form: {} for form in told.forms}
    if told.gives:
        content[_JSON] = {"schema": schema(told.gives)}
    return {"description": "Done."} | ({"content": content} if content else {})
