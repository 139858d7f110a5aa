"""Vertex AI: the container's contract, and the paths that its own client asks for.

https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements. A request has `instances` and may
have `parameters`, of which `key` and `version` are taken; an answer has `predictions`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core import Invalid, LoopwrightError
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer
from loopwright.serve.rest.contract import Contract
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.responses import JSON
from loopwright.serve.rest.routing import Route, Values
from loopwright.serve.rest.tabular import predictions_of, read_json, rows_of_instances

_encode = msgspec.json.encode
_STATUSES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 403: "PERMISSION_DENIED", 503: "UNAVAILABLE"}
_OF_CLIENTS = "/v1/projects/{project}/locations/{location}/endpoints/{model}"


class Vertex:
    """Answers Vertex AI."""

    def __init__(self, desk: Desk, contract: Contract) -> None:
        self._desk, self._contract = desk, contract

    def routes(self) -> list[Route]:
        """The rows of the table of routes: what the contract chose, `/predict`, and what the client asks for."""
        paths = ("/predict", *self._contract.predict, f"{_OF_CLIENTS}:predict", f"{_OF_CLIENTS}:rawPredict")
        return [Route("POST", path, self._predict, refusal) for path in paths]

    def _predict(self, exchange: Exchange, values: Values) -> None:
        self._desk.plane.admit(exchange.started_ns)
        request = read_json(self._desk.body(exchange))
        if request.__class__ is not dict or not isinstance(request, dict):
            raise Invalid("the request is no JSON object", next_step='send {"instances": [...]}')
        endpoint = self._desk.endpoint(values.get("model", "") or self._contract.model)
        parameters = _parameters(request.get("parameters"))
        rows = rows_of_instances(request.get("instances"), endpoint.intake)
        key = parameters.get("key")
        self._desk.ask(
            exchange,
            endpoint,
            rows,
            lambda answer: (_written(answer, endpoint), JSON),
            refusal,
            version=str(parameters.get("version", "")),
            keys=None if key is None else [str(key)] * len(rows),
        )


def _parameters(given: Any) -> dict[str, Any]:
    parameters = {} if given is None else given
    if parameters.__class__ is not dict or not isinstance(parameters, dict):
        raise Invalid("'parameters' is no JSON object")
    unknown = sorted(set(parameters) - {"key", "version"})
    if unknown:
        raise Invalid(f"the model takes no parameter {unknown[0]!r}", next_step="the parameters are key and version")
    return parameters


def _written(answer: Answer, endpoint: LoadedEndpoint) -> bytes:
    """The answer, with the model as Vertex AI names it."""
    loaded = answer.query.parts[0].loaded
    return _encode(
        {
            "predictions": predictions_of(answer),
            "deployedModelId": loaded.variant.name,
            "model": loaded.variant.model,
            "modelDisplayName": endpoint.spec.name,
            "modelVersionId": loaded.version,
        }
    )


def refusal(error: LoopwrightError) -> bytes:
    """An error as Google's clients read it."""
    status = _STATUSES.get(error.http_status, "INTERNAL")
    return _encode({"error": {"code": error.http_status, "message": str(error), "status": status}})
