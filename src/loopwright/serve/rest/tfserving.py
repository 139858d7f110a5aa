"""TensorFlow Serving's REST API: predict, classify, regress, metadata and status.

https://www.tensorflow.org/tfx/serving/api_rest. A label names a variant of the endpoint (`champion`, `candidate`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from loopwright.core import Invalid, NotFound
from loopwright.models import Task
from loopwright.serve.describing import signature_of, versions_of
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer
from loopwright.serve.rest import v2
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.responses import JSON
from loopwright.serve.rest.routing import Route, Values
from loopwright.serve.rest.tabular import predictions_of, read_json, rows_of_columns, rows_of_instances, rows_of_records

SIGNATURE = "serving_default"
_encode = msgspec.json.encode
Write = Callable[[Answer], tuple[bytes, bytes]]


class TensorFlowServing:
    """Answers TensorFlow Serving's clients."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """The rows of the table of routes. An error has the form `{"error": text}`."""
        rows = []
        model = "/v1/models/{model}"
        for path in (model, f"{model}/versions/{{version}}", f"{model}/labels/{{label}}"):
            rows += [
                Route("POST", f"{path}:predict", self._predict, v2.refusal),
                Route("POST", f"{path}:classify", self._classify, v2.refusal),
                Route("POST", f"{path}:regress", self._regress, v2.refusal),
                Route("GET", path, self._status, v2.refusal),
                Route("GET", f"{path}/metadata", self._metadata, v2.refusal),
            ]
        return rows

    def _predict(self, exchange: Exchange, values: Values) -> None:
        self._desk.plane.admit(exchange.started_ns)
        request = _request(self._desk.body(exchange))
        given = [name for name in ("instances", "inputs") if name in request]
        if len(given) != 1:
            raise Invalid(
                f"the request has {' and '.join(given) or 'neither instances nor inputs'}; it takes one of them"
            )
        endpoint = self._desk.plane.endpoint(values["model"])
        if "instances" in request:
            rows, write = rows_of_instances(request["instances"], endpoint.intake), _by_row
        else:
            rows, write = rows_of_columns(request["inputs"], endpoint.intake), _by_column
        self._ask(exchange, values, endpoint, rows, write)

    def _classify(self, exchange: Exchange, values: Values) -> None:
        endpoint, rows = self._examples(exchange, values)
        loaded = endpoint.live[0].predictor.manifest
        if loaded.task not in (Task.BINARY, Task.MULTICLASS):
            raise Invalid(f"model {endpoint.spec.name!r} does not classify", next_step="use :predict")
        self._ask(exchange, values, endpoint, rows, _classes)

    def _regress(self, exchange: Exchange, values: Values) -> None:
        endpoint, rows = self._examples(exchange, values)
        if len(endpoint.live[0].predictor.signature.outputs) != 1:
            raise Invalid(f"model {endpoint.spec.name!r} is no regression", next_step="use :classify or :predict")
        self._ask(exchange, values, endpoint, rows, lambda answer: (_encode({"results": predictions_of(answer)}), JSON))

    def _examples(self, exchange: Exchange, values: Values) -> tuple[LoadedEndpoint, Rows]:
        """The rows of a request to classify or regress: each is its `context`, overruled by its own values."""
        self._desk.plane.admit(exchange.started_ns)
        request = _request(self._desk.body(exchange))
        examples, context = request.get("examples"), request.get("context", {})
        if examples.__class__ is not list or not examples or context.__class__ is not dict:
            raise Invalid("the request takes 'examples', a list of objects, and may have a 'context', an object")
        endpoint = self._desk.plane.endpoint(values["model"])
        joined = [{**context, **item} if item.__class__ is dict else item for item in examples]
        return endpoint, rows_of_records(joined, endpoint.intake)

    def _ask(self, exchange: Exchange, values: Values, endpoint: LoadedEndpoint, rows: Rows, write: Write) -> None:
        self._desk.ask(exchange, endpoint, rows, write, v2.refusal, version=version_of(endpoint, values))

    def _status(self, exchange: Exchange, values: Values) -> None:
        endpoint = self._desk.plane.endpoint(values["model"])
        version = version_of(endpoint, values)
        status = {"error_code": "OK", "error_message": ""}
        found = [
            {"version": number, "state": "AVAILABLE", "status": status}
            for number in ([version] if version else reversed(versions_of(endpoint)))
        ]
        exchange.respond(200, _encode({"model_version_status": found}))

    def _metadata(self, exchange: Exchange, values: Values) -> None:
        endpoint = self._desk.plane.endpoint(values["model"])
        version = version_of(endpoint, values) or versions_of(endpoint)[-1]
        spec = {"name": endpoint.spec.name, "signature_name": "", "version": version}
        signatures = {"signature_def": {SIGNATURE: signature_of(endpoint)}}
        exchange.respond(200, _encode({"model_spec": spec, "metadata": {"signature_def": signatures}}))


def version_of(endpoint: LoadedEndpoint, values: Values) -> str:
    """The version that a path names by its number or its label; "" if it names none.

    Raises:
        NotFound: it is not served.
    """
    if label := values.get("label"):
        versions = {item.variant.name: item.version for item in endpoint.variants}
        if label not in versions:
            known = ", ".join(sorted(versions))
            raise NotFound(
                f"endpoint {endpoint.spec.name!r} has no label {label!r}", next_step=f"its labels are {known}"
            )
        return versions[label]
    version = values.get("version", "")
    if version:
        endpoint.at_version(version)
    return version


def check_signature(name: str) -> None:
    """Refuse another signature than the one that every model has.

    Raises:
        Invalid: it is another one.
    """
    if name not in ("", SIGNATURE):
        raise Invalid(f"there is no signature {name!r}", next_step=f"the only one is {SIGNATURE!r}")


def _request(body: bytes) -> dict[str, Any]:
    request = read_json(body)
    if request.__class__ is not dict or not isinstance(request, dict):
        raise Invalid("the request is no JSON object")
    name = request.get("signature_name", "")
    check_signature(name if name.__class__ is str else repr(name))
    return request


def _by_row(answer: Answer) -> tuple[bytes, bytes]:
    return _encode({"predictions": predictions_of(answer)}), JSON


def _by_column(answer: Answer) -> tuple[bytes, bytes]:
    outputs = answer.outputs
    return _encode({"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}), JSON


def _classes(answer: Answer) -> tuple[bytes, bytes]:
    """Per row, a pair of label and score for each class."""
    classes = [str(name) for name in answer.query.parts[0].loaded.predictor.manifest.classes]
    if "probabilities" in answer.outputs:
        scores = answer.outputs["probabilities"]
    else:
        scores = [[1.0 - value, value] for value in answer.outputs["probability"]]
    return _encode({"results": [list(zip(classes, row, strict=True)) for row in scores]}), JSON
