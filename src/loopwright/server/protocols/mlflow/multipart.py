"""Large files in parts over MLflow's protocol. The parts' addresses lead to this server; who knows an upload's secret,
which its creator is told in the headers for its parts, may put them."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable

from starlette.responses import Response

from loopwright.core import Conflict, Invalid
from loopwright.govern import PUBLIC
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, ask
from loopwright.server.protocols.mlflow.errors import mlflow_error
from loopwright.server.protocols.mlflow.places import Place, the_place
from loopwright.server.protocols.mlflow.records import Item
from loopwright.server.route import Call, Family, RouteSpec
from loopwright.server.transfer import ANY_TYPE, Transfers
from loopwright.track import Part

BASE = "/api/2.0/mlflow-artifacts/mpu"
UPLOAD_HEADER = "loopwright-upload"
_PATH = "{artifact_path:path}"


class Create(wire.Request, frozen=True):
    artifact_path: str
    path: str
    num_parts: int = 1


class PartItem(Item, frozen=True):
    part_number: int
    etag: str = ""
    url: str = ""


class Complete(wire.Request, frozen=True):
    artifact_path: str
    path: str
    upload_id: str
    parts: list[PartItem] = []


class Abort(wire.Request, frozen=True):
    artifact_path: str
    path: str
    upload_id: str


class Credential(Item, frozen=True):
    url: str
    part_number: int
    headers: dict[str, str]


class Created(Item, frozen=True):
    upload_id: str
    credentials: list[Credential]


def _place(asked: Create | Complete | Abort) -> Place:
    """The file that an upload makes: the last part of what the client calls it, in the folder that the path names."""
    name = posixpath.basename(asked.path.replace("\\", "/"))
    place = the_place(posixpath.join(asked.artifact_path, name))
    if place.bundle:
        raise Conflict("what a model version holds does not change", next_step="register another version")
    return place


async def create(call: Call, asked: Create) -> Created:
    """Begin an upload."""
    place = _place(asked)
    made = await ask(call, lambda rooms: rooms.artifacts.begin(place.owner, place.path, asked.num_parts))
    base = f"{_origin(call)}{_prefix(call)}{BASE}/part/{made.id}"
    numbers = range(1, made.parts + 1)
    headers = {UPLOAD_HEADER: made.secret}
    return Created(made.id, [Credential(f"{base}/{number}", number, headers) for number in numbers])


async def complete(call: Call, asked: Complete) -> None:
    """Make one file of the parts."""
    place = _place(asked)
    parts = tuple(Part(item.part_number, item.etag.strip('"')) for item in asked.parts)
    await ask(call, lambda rooms: rooms.artifacts.complete(place.owner, place.path, asked.upload_id, parts))


async def abort(call: Call, asked: Abort) -> None:
    """Forget an upload."""
    place = _place(asked)
    await ask(call, lambda rooms: rooms.artifacts.abort(place.owner, place.path, asked.upload_id))


def part_route(prefix: str, transfers: Transfers) -> RouteSpec:
    """The route that takes parts."""
    path = f"{prefix}{BASE}/part/{{upload}}/{{number}}"
    return RouteSpec(
        "PUT",
        path,
        PUBLIC,
        _part_handler(transfers),
        family=Family.PROTOCOL,
        content_types=(ANY_TYPE, ""),
        streams_body=True,
        error_page=mlflow_error,
    )


def _part_handler(transfers: Transfers) -> Callable[[Call], Awaitable[Response]]:
    async def put(call: Call) -> Response:
        upload, number = (call.request.path_params[name] for name in ("upload", "number"))
        secret = call.request.headers.get(UPLOAD_HEADER, "")
        if not number.isdecimal() or len(number) > 6:
            raise Invalid(f"{number[:20]!r} is not the number of a part")
        service = call.services.service("artifacts", call.scope)
        await call.services.in_thread(lambda: service.check_part(upload, secret, int(number)))
        part: Part = await transfers.receive(call, lambda body: service.put_part(upload, secret, int(number), body))
        answer = wire.answer()
        answer.headers["ETag"] = f'"{part.digest}"'
        return answer

    return put


def _origin(call: Call) -> str:
    """How this client reaches this server. The host was compared with ours; the scheme may be that of a proxy."""
    request = call.request
    forwarded = request.headers.get("x-forwarded-proto", "")
    scheme = forwarded if forwarded in ("http", "https") else request.url.scheme
    return f"{scheme}://{request.headers['host']}"


def _prefix(call: Call) -> str:
    project = call.request.path_params.get("project", "")
    return f"/projects/{project}" if project else ""


ENDPOINTS = (
    Endpoint("POST", f"{BASE}/create/{_PATH}", "runs:write", Create, create),
    Endpoint("POST", f"{BASE}/complete/{_PATH}", "runs:write", Complete, complete),
    Endpoint("POST", f"{BASE}/abort/{_PATH}", "runs:write", Abort, abort),
)
