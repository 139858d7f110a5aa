"""The routes through which files of runs, logged models and traces go up and down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from loopwright.server.route import JSON, Call, RouteSpec
from loopwright.server.transfer import Outgoing, Transfers, send

if TYPE_CHECKING:
    from loopwright.track import ArtifactService

PATH = "/api/v1/files"
OCTETS = "application/octet-stream"
_ROUTE = f"{PATH}/{{owner}}/{{path:path}}"


def file_routes() -> list[RouteSpec]:
    """One route up, one down."""
    transfers = Transfers()

    async def upload(call: Call) -> Response:
        owner, path, service = _asked(call)
        await call.services.in_thread(lambda: service.check(owner, path))
        made = await transfers.receive(call, lambda body: service.store(owner, path, body))
        return Response(msgspec.json.encode(made), media_type=JSON)

    return [
        RouteSpec("GET", _ROUTE, "runs:read", _download),
        RouteSpec("POST", _ROUTE, "runs:write", upload, content_types=(OCTETS,), streams_body=True),
    ]


async def _download(call: Call) -> Response:
    owner, path, service = _asked(call)

    def find() -> Outgoing:
        file, stream = service.open(owner, path)
        return Outgoing(path.rpartition("/")[2], file.digest, file.size_bytes, stream)

    return await send(call, find)


def _asked(call: Call) -> tuple[str, str, ArtifactService]:
    named = call.request.path_params
    return named["owner"], named["path"], call.services.service("artifacts", call.scope)
