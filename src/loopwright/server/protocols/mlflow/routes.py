"""Where the protocol answers: each endpoint at the root and below `/projects/{project}`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from starlette.responses import Response

from loopwright.core import Conflict, NotFound
from loopwright.server.protocols.mlflow import (
    artifacts,
    assessments,
    correlating,
    eval_sets,
    experiments,
    histories,
    inputs,
    legacy_traces,
    log,
    logged,
    multipart,
    registry,
    runs,
    system,
    traces,
    versions,
    webhooks,
    wire,
)
from loopwright.server.protocols.mlflow.endpoint import Endpoint
from loopwright.server.protocols.mlflow.errors import mlflow_error
from loopwright.server.protocols.mlflow.explaining import explained
from loopwright.server.protocols.mlflow.otlp import otlp_route
from loopwright.server.protocols.mlflow.turns import Intake
from loopwright.server.route import JSON, Call, Family, Realm, RouteSpec
from loopwright.server.transfer import Transfers

TYPES = (JSON, "application/json; charset=utf-8", "application/json;charset=utf-8")
PREFIXES = ("", "/projects/{project}")
REALMS = tuple(
    Realm(f"/api/{path}", mlflow_error, alias=f"/ajax-api/{path}")
    for path in ("2.0/mlflow", "2.0/mlflow-artifacts", "3.0/mlflow")
)


def routes_of(endpoints: Sequence[Endpoint]) -> list[RouteSpec]:
    """The routes of endpoints, below each prefix."""
    return [_route(prefix, endpoint) for prefix in PREFIXES for endpoint in endpoints]


def mlflow_routes(intake: Intake) -> list[RouteSpec]:
    """All routes of the protocol; what runs log goes into the intake."""
    endpoints = [
        *log.endpoints(intake),
        *system.ENDPOINTS,
        *experiments.ENDPOINTS,
        *runs.ENDPOINTS,
        *histories.ENDPOINTS,
        *inputs.ENDPOINTS,
        *artifacts.ENDPOINTS,
        *multipart.ENDPOINTS,
        *registry.ENDPOINTS,
        *versions.ENDPOINTS,
        *logged.ENDPOINTS,
        *traces.ENDPOINTS,
        *legacy_traces.ENDPOINTS,
        *correlating.ENDPOINTS,
        *assessments.ENDPOINTS,
        *eval_sets.ENDPOINTS,
        *webhooks.ENDPOINTS,
    ]
    transfers = Transfers()
    files = [artifacts.file_routes(prefix, transfers) for prefix in PREFIXES]
    parts = [multipart.part_route(prefix, transfers) for prefix in PREFIXES]
    spans = [otlp_route(prefix) for prefix in PREFIXES]
    health = _route(PREFIXES[1], system.HEALTH)
    return [*routes_of(endpoints), health, *chain(*files), *parts, *spans]


def _route(prefix: str, endpoint: Endpoint) -> RouteSpec:
    async def handle(call: Call) -> Response:
        named = {name: value for name, value in call.request.path_params.items() if name != "project"}
        if endpoint.method == "GET":
            request = wire.decode_query(endpoint.request, call.request.query_params, named)
        else:
            request = wire.decode(endpoint.request, call.body, named)
        try:
            made = await endpoint.answer(call, request)
        except (NotFound, Conflict) as error:
            raise await explained(call, request, error) from None
        return made if isinstance(made, Response) else wire.answer(made)

    return RouteSpec(
        endpoint.method,
        prefix + endpoint.path,
        endpoint.permission,
        handle,
        family=Family.PROTOCOL,
        # A DELETE may come without a body, and so without a type.
        content_types=(*TYPES, "") if endpoint.method == "DELETE" else TYPES,
        error_page=mlflow_error,
        at_once=endpoint.at_once,
    )
