"""What clients ask a server about itself before they ask anything else."""

from __future__ import annotations

import msgspec
from starlette.responses import PlainTextResponse, Response

from loopwright.govern import PUBLIC
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint
from loopwright.server.route import Call

PROTOCOL_VERSION = "3.6.0"
"""The version of MLflow that this server passes for: from 3.4 on, clients send spans to `/v1/traces`, from 3.6 on they
read them with the traces."""


class ServerInfo(wire.Request, frozen=True):
    """What this server can do."""

    store_type: str = "SqlStore"
    workspaces_enabled: bool = False
    trace_archival_enabled: bool = False
    multipart_uploads_enabled: bool = False
    multipart_downloads_enabled: bool = False
    presigned_upload_run_id_supported: bool = False
    presigned_upload_model_id_supported: bool = False
    features_enabled: dict[str, bool] = msgspec.field(default_factory=lambda: {"gateway": False})


async def version(_call: Call, _request: wire.Nothing) -> Response:
    """The version as plain text."""
    return PlainTextResponse(PROTOCOL_VERSION)


async def health(_call: Call, _request: wire.Nothing) -> Response:
    """That the server answers, as plain text."""
    return PlainTextResponse("OK")


async def server_info(_call: Call, _request: wire.Nothing) -> ServerInfo:
    """What clients from 3.5 on go by."""
    return ServerInfo()


HEALTH = Endpoint("GET", "/health", PUBLIC, wire.Nothing, health)
"""Below a project only; the server's own answers at the root."""

ENDPOINTS = (
    Endpoint("GET", "/version", PUBLIC, wire.Nothing, version),
    Endpoint("GET", "/api/3.0/mlflow/server-info", PUBLIC, wire.Nothing, server_info),
)
