"""A route: its method, path, permission and handler in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, LoopwrightError, Operation, Scope
from loopwright.govern import EVERY_PROJECT, PUBLIC, Identity, Session, check_permission

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from loopwright.server.services import Services

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PROJECT_HEADER = "loopwright-project"
PROJECTS = "/projects/"
"""Below it and a project's name, foreign protocols answer for that project."""
_OF_OURS = ("GET", "POST")
_OF_PROTOCOLS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Family(StrEnum):
    """Whose ways a route follows."""

    API = "api"
    PAGE = "page"
    PROTOCOL = "protocol"


@dataclass(frozen=True)
class Call:
    """A request that passed every rule: who asks, in which project, with which body."""

    request: Request
    identity: Identity | None
    scope: Scope
    services: Services
    body: bytes = b""
    session: Session | None = None

    async def ask(self, operation: str, **values: Any) -> Any:
        """Ask an operation by name, on behalf of the caller; its permission is judged as for its own route.

        Raises:
            Forbidden, Unauthorized: the caller may not use the operation.
            NotFound: there is no such operation, or what it was asked for.
            LoopwrightError: whatever the operation raises.
        """
        return await self.services.ask(self.identity, self.scope, operation, values)


Handler = Callable[[Call], "Awaitable[Response]"]
Done = Callable[[BaseException | None], None]
"""Told, on the event loop and later, that something was done, or the error for which nothing of it was."""
AtOnce = Callable[[str, bytes, Done], bool]
"""What may answer a POST with an empty object on the short way (`loopwright.server.shortcut`): given the project, the
body and whom to tell. False, before anything is done, where the handler has to look at the request."""
ErrorPage = Callable[["Request", LoopwrightError], "Response"]


@dataclass(frozen=True)
class RouteSpec:
    """One route. The app does not start if its permission is missing or malformed.

    Args:
        method: GET or POST; a foreign protocol's may be PUT, PATCH or DELETE as well.
        path: Starlette's form, such as `/p/{project}/runs/{run}`. A part named `project` names the project.
        permission: `room:read`, `room:write`, `room:admin` or `public`.
        handler: what answers.
        content_types: the exact types of body that it takes; an empty one takes a missing header.
        streams_body: whether the handler reads the body itself, within the bound.
        error_page: how a page tells of an error; None for the JSON of the API.
        at_once: answers what is ordinary, without a thread.
    """

    method: str
    path: str
    permission: str
    handler: Handler
    family: Family = Family.API
    content_types: tuple[str, ...] = (JSON,)
    streams_body: bool = False
    operation: Operation | None = field(default=None, repr=False)
    error_page: ErrorPage | None = field(default=None, repr=False)
    at_once: AtOnce | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Realm:
    """The paths of a foreign protocol.

    Args:
        path: what they begin with.
        error_page: how an unknown path below it is told of.
        alias: another beginning that its clients use for the same paths.
    """

    path: str
    error_page: ErrorPage
    alias: str = ""


def check_routes(routes: list[RouteSpec]) -> list[RouteSpec]:
    """The routes, if each declares a permission and no two answer the same method and path.

    Raises:
        Invalid: one does not, or two do.
    """
    seen: set[tuple[str, str]] = set()
    for route in routes:
        if not route.permission:
            raise Invalid(f"the route {route.method} {route.path} declares no permission")
        check_permission(route.permission)
        if route.method not in (_OF_PROTOCOLS if route.family is Family.PROTOCOL else _OF_OURS):
            raise Invalid(f"the route {route.path} has the method {route.method!r}; use GET or POST")
        if (route.method, route.path) in seen:
            raise Invalid(f"two routes answer {route.method} {route.path}")
        if route.operation is not None and route.permission in (PUBLIC, ""):
            raise Invalid(f"the operation {route.operation.name} may not be public")
        seen.add((route.method, route.path))
    return routes


def check_project(name: str, permission: str) -> str:
    """`name`, if a request may be made in a project of that name; `*` only where workspace-wide things are ruled.

    Raises:
        Invalid: it may not.
    """
    from loopwright.core import check_name

    if name == EVERY_PROJECT and permission.partition(":")[0] in ("tokens", "events", PUBLIC):
        return name
    return check_name("project", name)
