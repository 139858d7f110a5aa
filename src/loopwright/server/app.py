"""The control app: one router, each route behind the same guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

import loopwright
from loopwright.core import Invalid, LoopwrightError, Scope, new_id
from loopwright.govern import EVERY_PROJECT, PUBLIC
from loopwright.server import security
from loopwright.server.bundles import bundle_routes
from loopwright.server.deliveries import delivery_routes
from loopwright.server.dispatch import Dispatch
from loopwright.server.errors import UnknownRoute, WrongMethod, as_error, reply_for
from loopwright.server.feed import Feed
from loopwright.server.files import file_routes
from loopwright.server.guard import Gate, Guard, error_response, head_of
from loopwright.server.metrics import ControlMetrics
from loopwright.server.openapi import describe
from loopwright.server.operations import operation_routes
from loopwright.server.proxy import InferenceProxy
from loopwright.server.route import JSON, PROJECTS, Call, ErrorPage, Realm, RouteSpec, check_routes
from loopwright.server.services import ServiceMap, Services
from loopwright.server.sessions import session_routes
from loopwright.server.settings import ServerSettings
from loopwright.server.shortcut import Shortcuts
from loopwright.server.stream import EventStream


def create_app(
    services: ServiceMap,
    gate: Gate,
    settings: ServerSettings,
    inference_url: Callable[[], str | None],
    extra_routes: Sequence[RouteSpec] = (),
    realms: Sequence[Realm] = (),
) -> Starlette:
    """The control app.

    Args:
        services: by name, the type of a service (its operations become routes) and what makes one for a scope.
            `events` also feeds the live stream, where it is given.
        gate: who stands behind a token or a session.
        settings: hosts, bounds, whether local mode is on.
        inference_url: the address of the inference process; None while it does not run.
        extra_routes: pages, and the routes of foreign protocols.
        realms: the paths of foreign protocols; an unknown path below one is told of in its way.

    Raises:
        Invalid: a route declares no permission, two answer the same path, or a type cannot be carried by JSON.
    """
    asked = Services(services, settings.threads)
    guard = Guard(asked, gate, settings)
    proxy = InferenceProxy(inference_url, settings.max_proxy_body_bytes)
    metrics = ControlMetrics(proxy, inference_url)
    feed = _feed(services, asked)
    stream = [] if feed is None else [EventStream(feed, guard, settings.max_streams).route()]
    derived = operation_routes(asked)
    routes = check_routes(
        [
            *proxy.routes(),
            *derived,
            *stream,
            metrics.route(),
            *_own_routes(derived, inference_url),
            *session_routes(gate),
            *(delivery_routes() if "runs" in services else []),
            *(file_routes() if "artifacts" in services else []),
            *(bundle_routes() if "models" in services else []),
            *extra_routes,
        ]
    )
    guarded = [(Route(spec.path, (way := guard.wrap(spec)), methods=[spec.method]), way) for spec in routes]
    app = Starlette(
        routes=[route for route, _ in guarded],
        middleware=[Middleware(metrics.middleware), Middleware(Dispatch, guarded, realms)],
        exception_handlers={HTTPException: _unrouted(settings, realms), Exception: _failed(settings)},
        lifespan=_lifespan(proxy, feed),
    )
    app.router.redirect_slashes = False
    app.state.specs, app.state.feed, app.state.shortcuts = routes, feed, Shortcuts(routes, guard, metrics)
    return app


def _feed(services: ServiceMap, asked: Services) -> Feed | None:
    if "events" not in services:
        return None
    factory = services["events"][1]

    def head() -> int:
        position: int = factory(Scope(EVERY_PROJECT)).head()
        return position

    return Feed(asked, head)


def _own_routes(derived: list[RouteSpec], inference_url: Callable[[], str | None]) -> list[RouteSpec]:
    description = msgspec.json.encode(describe(derived, loopwright.__version__))

    async def openapi(_call: Call) -> Response:
        return Response(description, media_type=JSON)

    async def health(call: Call) -> Response:
        told = {"status": "ok", "version": loopwright.__version__}
        if call.identity is not None:  # a client on this machine may ask the inference process straight
            told["inference"] = inference_url() or ""
        return Response(msgspec.json.encode(told), media_type=JSON)

    return [
        RouteSpec("GET", "/openapi.json", PUBLIC, openapi),
        RouteSpec("GET", "/health", PUBLIC, health),
    ]


def _lifespan(proxy: InferenceProxy, feed: Feed | None) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        if feed is not None:
            await feed.close()
        await proxy.close()

    return lifespan


def _unrouted(settings: ServerSettings, realms: Sequence[Realm]) -> Callable[[Request, Exception], Response]:
    """What a path or method without a route gets: the host is judged all the same."""

    def answer(request: Request, error: Exception) -> Response:
        told = _unknown(request, error)
        try:
            security.check_host(head_of(request), settings)
        except Invalid as refused:
            told = refused
        page = realm_of(request.url.path, realms)
        response = _plain(told, settings) if page is None else page(request, told)
        if isinstance(told, WrongMethod):
            response.headers["allow"] = ", ".join(_methods(request))
        return response

    return answer


def realm_of(path: str, realms: Sequence[Realm]) -> ErrorPage | None:
    """How errors are told below a path, which may be that of a project; None for the API's own way."""
    inner = "/" + path.split("/", 3)[-1] if path.startswith(PROJECTS) else path
    return next((realm.error_page for realm in realms if f"{inner}/".startswith(f"{realm.path}/")), None)


def _unknown(request: Request, error: Exception) -> LoopwrightError:
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = " or ".join(_methods(request))
        return WrongMethod(f"{request.url.path[:200]} does not take {request.method[:20]}", next_step=f"use {allowed}")
    return UnknownRoute(f"there is nothing at {request.url.path[:200]!r}", next_step="see /openapi.json")


def _methods(request: Request) -> list[str]:
    """The methods that the path has, which may be those of several routes."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({name for route in found for name in route.methods or ()})


def _failed(settings: ServerSettings) -> Callable[[Request, Exception], Response]:
    """The last resort for a defect outside every handler."""
    return lambda _request, error: _plain(as_error(error, new_id()), settings)


def _plain(error: LoopwrightError, settings: ServerSettings) -> Response:
    return error_response(error, reply_for(error, settings.concealed))
