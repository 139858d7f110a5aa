"""The routes through which bundles go up, as one zip, and down, file by file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from loopwright.core import Corrupt, Invalid, NotFound
from loopwright.server.route import JSON, Call, RouteSpec
from loopwright.server.transfer import Incoming, Outgoing, Transfers, send

PATH = "/api/v1/bundles"
ZIP = "application/zip"
_CHUNK_BYTES = 1 << 20


class Upload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of a bundle that is sent: what is kept with the version, and which code was asked for by name."""

    run: str = ""
    metrics: dict[str, float] = {}
    training_data: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    description: str = ""
    allow_pickle: bool = False
    allow_code: bool = False


def bundle_routes() -> list[RouteSpec]:
    """One route up, one down."""
    transfers = Transfers()

    async def upload(call: Call) -> Response:
        made = await transfers.receive(call, lambda body: _register(call, body))
        return Response(msgspec.json.encode(made), media_type=JSON)

    return [
        RouteSpec("POST", f"{PATH}/{{name}}", "models:write", upload, content_types=(ZIP,), streams_body=True),
        RouteSpec("GET", f"{PATH}/{{name}}/{{selector}}/{{path:path}}", "models:read", _download),
    ]


def _register(call: Call, body: Incoming) -> Any:
    """Unpack, judge and register what was sent. Nothing in it is loaded."""
    from loopwright.models import Bundle, check_outsider, refuse_code, scan, unpack

    name, said = call.request.path_params["name"], _said(call)
    service = call.services.service("models", call.scope)
    with tempfile.TemporaryDirectory(dir=service.stores.data, prefix="upload-") as scratch:
        archive, folder = Path(scratch) / "bundle.zip", Path(scratch) / "bundle"
        with archive.open("wb") as target:
            while piece := body.read(_CHUNK_BYTES):
                target.write(piece)
        folder.mkdir()
        try:
            unpack(archive, folder)
            archive.unlink()
            bundle: Bundle = check_outsider(folder)
        except (Corrupt, NotFound) as error:  # nothing that is kept here is damaged or missing: what was sent is
            raise Invalid(f"what was sent is no whole bundle: {error.message}", next_step="send it again") from error
        refuse_code(scan(folder), "the bundle", allow_pickle=said.allow_pickle, allow_code=said.allow_code)
        about = msgspec.structs.asdict(said)
        del about["allow_pickle"], about["allow_code"]
        return service.register(name, bundle, **about)


async def _download(call: Call) -> Response:
    named = call.request.path_params
    service = call.services.service("models", call.scope)

    def find() -> Outgoing:
        version = service.get(f"model:{named['name']}@{named['selector']}")
        entry, stream = service.open_file(version.bundle, named["path"])
        return Outgoing(named["path"].rpartition("/")[2], entry.digest, entry.size_bytes, stream, entry.offset)

    return await send(call, find)


def _said(call: Call) -> Upload:
    try:
        return msgspec.json.decode(call.request.query_params.get("about") or b"{}", type=Upload)
    except msgspec.MsgspecError as error:
        raise Invalid(f"what is said of the bundle cannot be read: {error}", where="about") from None
