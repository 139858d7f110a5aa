"""What stands before every handler: host, origin, identity, permission, CSRF, type and size of the body, in this
order, and the one place where errors become replies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from loopwright.core import LoopwrightError, Scope, Unauthorized, new_id, new_request
from loopwright.govern import PUBLIC, Identity, Session, authorise, local_identity
from loopwright.server import security
from loopwright.server.errors import BodyTooLarge, as_error, reply_for
from loopwright.server.identities import Identities
from loopwright.server.route import JSON, PROJECT_HEADER, Call, Family, RouteSpec, check_project
from loopwright.server.security import Head
from loopwright.server.services import Services
from loopwright.server.settings import ServerSettings

COOKIE = "loopwright_session"
REQUEST_HEADER = "loopwright-request"
_REQUEST_HEADER_RAW = REQUEST_HEADER.encode()
_NOBODY = "user:nobody"


class Gate(Protocol):
    """Who stands behind a secret or a cookie. Thread-safe."""

    def identify(self, secret: str) -> Identity:
        """The identity that a token proves.

        Raises:
            Unauthorized: it proves none.
        """
        ...

    def session(self, cookie: str) -> Session | None:
        """The session behind a cookie, if it has not ended."""
        ...

    def open_session(self, secret: str) -> Session:
        """A new session for the holder of a token.

        Raises:
            Unauthorized: the token proves nobody.
        """
        ...

    def close_session(self, cookie: str) -> None:
        """End a session; no error if there is none."""
        ...


class Guard:
    """Wraps handlers so that none is reached before every rule held."""

    def __init__(self, services: Services, gate: Gate, settings: ServerSettings) -> None:
        self.services, self.gate, self.settings = services, gate, settings
        self._identities = Identities(self._identify)

    async def _identify(self, secret: str) -> Identity:
        found: Identity = await self.services.in_thread(lambda: self.gate.identify(secret))
        return found

    def wrap(self, route: RouteSpec) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint for a route."""

        async def endpoint(request: Request) -> Response:
            request_id = new_id()
            try:
                response = await route.handler(await self.admit(route, request, request_id))
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:  # noqa: BLE001  every kind becomes a reply here; as_error logs defects
                response = self.refuse(route, request, as_error(error, request_id))
            response.raw_headers.append((_REQUEST_HEADER_RAW, request_id.encode()))
            return response

        return endpoint

    async def admit(self, route: RouteSpec, request: Request, request_id: str) -> Call:
        """The call behind a request that keeps every rule.

        Raises:
            LoopwrightError: it breaks one; nothing of the body was parsed.
        """
        head = head_of(request)
        security.check_host(head, self.settings)
        security.check_origin(head, self.settings)
        project = self.project_of(route, request, head)
        identity, session = await self.identity_of(head, request)
        authorise(identity, route.permission, project)
        if identity is not None and "authorization" not in head.headers and route.permission != PUBLIC:
            protocol = route.family is Family.PROTOCOL
            security.check_csrf(head, session.csrf if session else None, protocol=protocol)
        security.check_content_type(head, route.content_types)
        body = b"" if head.safe or route.streams_body else await read_body(request, self.settings.max_body_bytes)
        scope = Scope(project, identity.actor if identity else _NOBODY, new_request(request_id))
        return Call(request, identity, scope, self.services, body, session)

    def project_of(self, route: RouteSpec, request: Request, head: Head) -> str:
        """The project that a request names: in its path, in its header, for what is no operation in its query (an
        EventSource sends no headers of its own); else the workspace's own."""
        named = request.path_params.get("project") or head.headers.get(PROJECT_HEADER)
        if not named and route.operation is None and route.family is Family.API:
            named = request.query_params.get("project")
        return check_project(named, route.permission) if named else self.settings.default_project

    async def identity_of(self, head: Head, request: Request) -> tuple[Identity | None, Session | None]:
        """Who asks: by bearer token, else by session, else as the local user; None where nobody is known.

        Raises:
            Unauthorized: a token is given and proves nobody.
        """
        given = head.headers.get("authorization")
        if given is not None:
            scheme, _, secret = given.partition(" ")
            if scheme.lower() != "bearer" or not secret:
                raise Unauthorized("the Authorization header is not 'Bearer TOKEN'", where="Authorization")
            return await self._identities.of(secret.strip()), None
        cookie = request.cookies.get(COOKIE) if "cookie" in head.headers else None
        if cookie:
            session = await self.services.in_thread(lambda: self.gate.session(cookie))
            if session is not None:
                return session.identity, session
        return (local_identity(), None) if security.is_local(head, self.settings) else (None, None)

    def refuse(self, route: RouteSpec, request: Request, error: LoopwrightError) -> Response:
        """The reply for an error, as a page where the route is one."""
        told = reply_for(error, self.settings.concealed)
        if route.error_page is not None:
            clean = type(error)(told.error.message, where=told.error.where, next_step=told.error.next_step)
            return route.error_page(request, clean)
        return error_response(error, told)


def error_response(error: LoopwrightError, body: Any) -> Response:
    """A reply with the status of the error's kind."""
    headers = {}
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.http_status == 503:
        headers["Retry-After"] = "1"
    return Response(msgspec.json.encode(body), status_code=error.http_status, media_type=JSON, headers=headers)


def error_reply(error: LoopwrightError) -> Response:
    """The API's reply for an error whose texts may be told as they are."""
    return error_response(error, reply_for(error))


def head_of(request: Request) -> Head:
    """What the security rules look at."""
    scope = request.scope
    client = scope.get("client")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Head(scope["method"], client[0] if client else "", headers)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it is over the limit; no more than the limit was read.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise too_large(limit_bytes)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def too_large(limit_bytes: int) -> BodyTooLarge:
    """The error for a body over its bound."""
    return BodyTooLarge(f"the body is over {limit_bytes} bytes", next_step="send it in several requests")
