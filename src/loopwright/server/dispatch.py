"""The short way to a route: by its exact path, before Starlette tries its patterns one after the other.

Only paths without parts of their own are found here, at the root or below `/projects/{project}`; the rest goes on to
the router. Every route found is guarded as ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from loopwright.server.route import PROJECTS, Realm

_TEMPLATE = f"{PROJECTS}{{project}}/"
Endpoint = Callable[[Request], Awaitable[Response]]


class Dispatch:
    """Finds the route of a request in one look, and takes a realm's other name for its own."""

    def __init__(self, app: ASGIApp, routes: Sequence[tuple[Route, Endpoint]], realms: Sequence[Realm]) -> None:
        self._app = app
        self._aliases = {realm.alias: realm.path for realm in realms if realm.alias}
        self._table: Mapping[tuple[str, str], tuple[Route, Endpoint]] = {
            (method, route.path): (route, endpoint)
            for route, endpoint in routes
            for method in route.methods or ()
            if "{" not in route.path.removeprefix(_TEMPLATE)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        project, key = split_path(scope["path"])
        found = self._table.get((scope["method"], key))
        if found is None:
            self._rename(scope, project, key)
            project, key = split_path(scope["path"])
            found = self._table.get((scope["method"], key))
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], scope["path_params"] = found[0], {"project": project} if project else {}
        response = await found[1](Request(scope, receive, send))
        await response(scope, receive, send)

    def _rename(self, scope: Scope, project: str, key: str) -> None:
        """Put a realm's own path in the place of its other name."""
        inner = key.removeprefix(_TEMPLATE[:-1]) if project else key
        for alias, path in self._aliases.items():
            if f"{inner}/".startswith(f"{alias}/"):
                scope["path"] = f"{PROJECTS}{project}" * bool(project) + path + inner[len(alias) :]
                scope["raw_path"] = scope["path"].encode("utf-8", "replace")


def split_path(path: str) -> tuple[str, str]:
    """The project in a path, or empty, and the path as routes write it."""
    if not path.startswith(PROJECTS):
        return "", path
    project, slash, rest = path[len(PROJECTS) :].partition("/")
    return (project, _TEMPLATE + rest) if slash and project else ("", path)
