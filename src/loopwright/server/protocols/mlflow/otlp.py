"""Spans as OpenTelemetry's exporters send them, and MLflow's clients from 3.4 on: `POST /v1/traces`.

The header `x-mlflow-experiment-id` names the experiment, `x-mlflow-run-id` a run that the traces are linked to. A span
that is sent again takes the place of the one that is there, so exporters may repeat what they sent.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from loopwright.core import Invalid
from loopwright.server.protocols.mlflow.endpoint import Rooms, ask
from loopwright.server.protocols.mlflow.errors import Unprocessable, mlflow_error
from loopwright.server.protocols.mlflow.experiments import find
from loopwright.server.protocols.mlflow.otlp_wire import PROTOBUF, read_json, read_protobuf, reply, spans_of, unpacked
from loopwright.server.route import JSON, Call, Family, RouteSpec
from loopwright.track import is_tag

PATH = "/v1/traces"
EXPERIMENT, RUN = "x-mlflow-experiment-id", "x-mlflow-run-id"
_TYPES = (PROTOBUF, JSON, f"{JSON}; charset=utf-8", f"{JSON};charset=utf-8")
_NO_TAGS = ("telemetry.sdk.", "mlflow.")
_MAX_TAGS = 100


async def export(call: Call) -> Response:
    """Keep the spans of a request, those of each resource in one transaction; one that is sent again is kept once."""
    headers = call.request.headers
    experiment = headers.get(EXPERIMENT, "")
    if not experiment:
        raise Unprocessable(f"the header {EXPERIMENT} is missing", next_step="name the experiment by its id")
    protobuf = headers.get("content-type", "").lower() == PROTOBUF

    def work(rooms: Rooms) -> Response:
        body = unpacked(call.body, headers.get("content-encoding", "").lower())
        groups = list(spans_of(read_protobuf(body) if protobuf else read_json(body)))
        if not groups:
            raise Invalid("Invalid OpenTelemetry format - no spans found", next_step="send at least one")
        place, refused, why = find(rooms.experiments, experiment).id, 0, ""
        for resource, spans in groups:
            if spans:
                kept = rooms.traces.record_spans(place, spans, tags_of(resource), headers.get(RUN, ""))
                refused, why = refused + kept.refused, kept.why or why
        return Response(reply(refused, why, protobuf=protobuf), media_type=PROTOBUF if protobuf else JSON)

    return await ask(call, work)


def tags_of(resource: dict[str, Any]) -> dict[str, str]:
    """What the attributes of what made spans say of their traces, as tags."""
    given = {key: value for key, value in resource.items() if not key.startswith(_NO_TAGS)}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
    fit = {key: text for key, text in texts.items() if is_tag(key, text)}
    return dict(sorted(fit.items())[:_MAX_TAGS])


def otlp_route(prefix: str) -> RouteSpec:
    """The route below a prefix."""
    return RouteSpec(
        "POST",
        prefix + PATH,
        "runs:write",
        export,
        family=Family.PROTOCOL,
        content_types=_TYPES,
        error_page=mlflow_error,
    )
