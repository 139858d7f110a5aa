"""Artifacts over MLflow's protocol: listed, and streamed in both directions through the server."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from blake3 import blake3
from starlette.responses import Response

from loopwright.core import Conflict, Invalid, NotFound, Ref
from loopwright.govern import authorise
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.errors import Unsupported, mlflow_error
from loopwright.server.protocols.mlflow.places import Place, place_of, safe, the_place
from loopwright.server.protocols.mlflow.records import Item, run_info
from loopwright.server.protocols.mlflow.span_items import spans_file
from loopwright.server.route import Call, Family, RouteSpec
from loopwright.server.transfer import ANY_TYPE, Outgoing, Transfers, send
from loopwright.track import SPANS_FILE

if TYPE_CHECKING:
    from loopwright.track import Entry

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
API = "/api/2.0/mlflow"
_PATH = "{artifact_path:path}"
_NO_TYPE = (ANY_TYPE, "")


class FileItem(Item, frozen=True):
    """A file or folder; `file_size` in bytes."""

    path: str
    is_dir: bool
    file_size: int | None = None


class Files(Item, frozen=True):
    files: list[FileItem] = []


class RunFiles(Item, frozen=True):
    root_uri: str
    files: list[FileItem] = []


class ListProxy(wire.Request, frozen=True):
    path: str = ""


class ListRun(wire.Request, frozen=True):
    run_id: str
    path: str = ""
    page_token: str = ""


class Presigned(wire.Request, frozen=True):
    artifact_path: str = ""


async def list_proxy(call: Call, asked: ListProxy) -> Files:
    """What lies in a folder, by the last part of each path; nothing where there is no owner in the path yet."""
    place = place_of(asked.path)
    if place is None:
        return Files()
    entries = await entries_at(call, place)
    return Files([FileItem(entry.name, entry.is_folder, _size(entry)) for entry in entries])


async def list_run(call: Call, asked: ListRun) -> RunFiles:
    """What lies in a folder of a run."""
    folder = safe(asked.path) if asked.path.strip("/") else ""

    def look(rooms: Rooms) -> RunFiles:
        run = rooms.runs.get(asked.run_id)
        return RunFiles(run_info(run).artifact_uri, file_items(rooms.artifacts.list(run.ref, folder)))

    return await ask(call, look)


def file_items(entries: list[Entry]) -> list[FileItem]:
    """Entries in MLflow's words, with their whole paths."""
    return [FileItem(entry.path, entry.is_folder, _size(entry)) for entry in entries]


async def no_presigned(_call: Call, _asked: Presigned) -> None:
    """Files go through the server here; clients that hear this send and fetch them so.

    Raises:
        Unsupported: always.
    """
    raise Unsupported("presigned addresses are not given: artifacts go through this server")


async def entries_at(call: Call, place: Place) -> list[Entry]:
    """What lies in a folder. Raises as the services do."""
    if place.bundle:
        authorise(call.identity, "models:read", call.scope.project)
        return await ask(call, lambda rooms: rooms.models.files(place.bundle, place.path))
    return await ask(call, lambda rooms: rooms.artifacts.list(place.owner, place.path))


async def send_place(call: Call, place: Place) -> Response:
    """The reply with the file at a place. Raises as the services do."""
    if place.bundle:
        authorise(call.identity, "models:read", call.scope.project)
    if not place.path:
        raise Invalid("Artifact path refers to a directory, not a file", next_step="list it, and ask for a file")
    return await send(call, lambda: _find(Rooms(call), place))


def _find(rooms: Rooms, place: Place) -> Outgoing:
    name = place.path.rpartition("/")[2]
    if place.bundle:
        entry, stream = rooms.models.open_file(place.bundle, place.path)
        return Outgoing(name, entry.digest, entry.size_bytes, stream, entry.offset)
    try:
        file, stream = rooms.artifacts.open(place.owner, place.path)
    except NotFound:
        if place.owner.startswith("trace:") and place.path == SPANS_FILE:
            return _spans(rooms, place.owner.partition(":")[2])
        if rooms.artifacts.list(place.owner, place.path):
            raise Invalid(f"Artifact path refers to a directory, not a file: '{place.path}'") from None
        raise
    return Outgoing(name, file.digest, file.size_bytes, stream)


def _spans(rooms: Rooms, trace: str) -> Outgoing:
    """The file of spans that came one by one, for clients that read no others."""
    found = rooms.traces.spans(trace)
    if not found:
        raise NotFound(f"the trace {trace} has no spans yet", next_step="wait until its client has sent them")
    data = spans_file(found)
    return Outgoing(SPANS_FILE, blake3(data).hexdigest(), len(data), io.BytesIO(data))


async def download_of_trace(call: Call) -> Response:
    """The spans of a trace, as pages ask for them."""
    trace, path = (call.request.query_params.get(name, "") for name in ("request_id", "path"))
    if not trace:
        raise Invalid('Request must include the "request_id" query parameter.')
    return await send_place(call, Place(f"attachments/{safe(path)}" if path else SPANS_FILE, owner=f"trace:{trace}"))


async def download(call: Call) -> Response:
    """A file of the proxy."""
    return await send_place(call, the_place(call.request.path_params["artifact_path"]))


async def download_of_run(call: Call) -> Response:
    """A file of a run, as pages ask for it."""
    query = call.request.query_params
    run = query.get("run_id") or query.get("run_uuid")
    if not run or not query.get("path"):
        raise wire.missing("path" if run else "run_id")
    return await send_place(call, Place(safe(query["path"]), owner=f"run:{run}"))


async def download_of_version(call: Call) -> Response:
    """A file of a model version, as pages ask for it."""
    query = call.request.query_params
    name, version, path = (query.get(field, "") for field in ("name", "version", "path"))
    if not (name and version and path):
        raise wire.missing("name" if not name else "path" if version else "version")
    held = await ask(call, lambda rooms: rooms.models.get(str(Ref("model", name, version))))
    if not held.bundle:
        raise Conflict(f"{held.ref} has no files here; it comes from {held.source[:200]}")
    return await send_place(call, Place(safe(path), bundle=held.bundle))


async def download_of_model(call: Call) -> Response:
    """A file of a logged model, as pages ask for it."""
    path = call.request.query_params.get("artifact_file_path", "")
    if not path:
        raise Invalid('Request must include the "artifact_file_path" query parameter.')
    return await send_place(call, Place(safe(path), owner=f"model:{call.request.path_params['model_id']}"))


async def delete(call: Call) -> Response:
    """Forget a file or a folder of an owner."""
    place = _changeable(call.request.path_params["artifact_path"])
    await ask(call, lambda rooms: rooms.artifacts.delete(place.owner, place.path))
    return wire.answer()


def uploads(transfers: Transfers) -> dict[str, Callable[[Call], Awaitable[Response]]]:
    """The handlers that take files."""

    async def store(call: Call, place: Place) -> Response:
        await ask(call, lambda rooms: rooms.artifacts.check(place.owner, place.path))
        rooms = Rooms(call)
        await transfers.receive(call, lambda body: rooms.artifacts.store(place.owner, place.path, body))
        return wire.answer()

    async def upload(call: Call) -> Response:
        """A file of the proxy."""
        return await store(call, _changeable(call.request.path_params["artifact_path"]))

    async def upload_to_run(call: Call) -> Response:
        """A file of a run, as pages send it."""
        query = call.request.query_params
        run = query.get("run_uuid") or query.get("run_id")
        if not run or not query.get("path"):
            raise Invalid(f"Request must specify {'path' if run else 'run_uuid'}.")
        path = safe(query["path"])
        if call.request.headers.get("content-length") == "0":
            raise Invalid("Request must specify data.")
        return await store(call, Place(path, owner=f"run:{run}"))

    return {"upload": upload, "upload_to_run": upload_to_run}


def _changeable(path: str) -> Place:
    place = the_place(path)
    if place.bundle:
        raise Conflict("what a model version holds does not change", next_step="register another version")
    return place


def _size(entry: Entry) -> int | None:
    return None if entry.is_folder else entry.size_bytes


ENDPOINTS = (
    Endpoint("GET", PROXY, "runs:read", ListProxy, list_proxy),
    Endpoint("GET", f"{API}/artifacts/list", "runs:read", ListRun, list_run),
    Endpoint("GET", f"/api/2.0/mlflow-artifacts/presigned/{_PATH}", "runs:read", Presigned, no_presigned),
    Endpoint("POST", f"{API}/artifacts/presigned-upload-url", "runs:write", wire.Nothing, no_presigned),
    Endpoint("POST", f"{API}/artifacts/presigned-download-url", "runs:read", wire.Nothing, no_presigned),
)


def file_routes(prefix: str, transfers: Transfers) -> list[RouteSpec]:
    """The routes whose bodies or replies are files."""
    taking = uploads(transfers)
    model_file = f"{API}/logged-models/{{model_id}}/artifacts/files"
    gets: dict[str, Callable[[Call], Awaitable[Response]]] = {
        f"{PROXY}/{_PATH}": download,
        "/get-artifact": download_of_run,
        f"{API}/get-artifact": download_of_run,
        model_file: download_of_model,
        f"{API}/get-trace-artifact": download_of_trace,
    }
    versions = ("/model-versions/get-artifact", f"{API}/model-versions/get-artifact")
    return [
        *(_route("GET", prefix + path, "runs:read", handler) for path, handler in gets.items()),
        *(_route("GET", prefix + path, "models:read", download_of_version) for path in versions),
        _route("PUT", f"{prefix}{PROXY}/{_PATH}", "runs:write", taking["upload"], streams_body=True),
        _route("DELETE", f"{prefix}{PROXY}/{_PATH}", "runs:write", delete),
        _route("POST", f"{prefix}{API}/upload-artifact", "runs:write", taking["upload_to_run"], streams_body=True),
    ]


def _route(
    method: str, path: str, permission: str, handler: Callable[[Call], Awaitable[Response]], **more: Any
) -> RouteSpec:
    return RouteSpec(
        method,
        path,
        permission,
        handler,
        family=Family.PROTOCOL,
        content_types=_NO_TYPE,
        error_page=mlflow_error,
        **more,
    )
