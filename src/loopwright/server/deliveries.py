"""The routes that take what clients' spools hold."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from loopwright.core import Invalid
from loopwright.server.courier import DELIVER_PATH, FILE_PATH, OCTETS
from loopwright.server.route import JSON, Call, RouteSpec
from loopwright.server.transfer import Incoming, Transfers
from loopwright.track import SpoolBatch, apply_batch, keep_file

_PIECE_BYTES = 1 << 20
_decoder = msgspec.msgpack.Decoder(SpoolBatch)


def delivery_routes() -> list[RouteSpec]:
    """One route for batches, one for files."""
    keep = partial(_keep_file, transfers=Transfers())
    return [
        RouteSpec("POST", DELIVER_PATH, "runs:write", _deliver, content_types=(OCTETS,)),
        RouteSpec("POST", FILE_PATH, "runs:write", keep, content_types=(OCTETS,), streams_body=True),
    ]


async def _deliver(call: Call) -> Response:
    try:
        batch = _decoder.decode(call.body)
    except msgspec.DecodeError as error:
        raise Invalid(
            f"the body is no batch of a spool: {error}", next_step="use the same version on both sides"
        ) from None
    stores = _stores(call)
    outcome = await call.services.in_thread(lambda: apply_batch(stores, call.scope, batch))
    return Response(msgspec.json.encode(outcome), media_type=JSON)


async def _keep_file(call: Call, transfers: Transfers) -> Response:
    run, path = (_named(call, name) for name in ("run", "path"))
    stores = _stores(call)

    def keep(body: Incoming) -> None:
        with tempfile.TemporaryDirectory(dir=stores.data, prefix="upload-") as folder:
            file = Path(folder) / "file"
            with file.open("wb") as kept:
                while piece := body.read(_PIECE_BYTES):
                    kept.write(piece)
            keep_file(stores, call.scope, run, path, file)

    await transfers.receive(call, keep)
    return Response(b"null", media_type=JSON)


def _named(call: Call, name: str) -> str:
    found = call.request.query_params.get(name, "")
    if not found:
        raise Invalid(f"the query names no {name}", where=name)
    return found


def _stores(call: Call) -> Any:
    return call.services.service("runs", call.scope).stores
