"""Signing in and out of the pages: a token is exchanged for a session cookie."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode

from starlette.responses import RedirectResponse, Response

from loopwright.core import Invalid, Unauthorized
from loopwright.govern import PUBLIC
from loopwright.server import security
from loopwright.server.guard import COOKIE, Gate, head_of
from loopwright.server.route import FORM, Call, RouteSpec

SIGN_IN = "/login"


def session_routes(gate: Gate) -> list[RouteSpec]:
    """`POST /login` with a form of `token` and `next`, and `POST /logout`."""

    async def sign_in(call: Call) -> Response:
        fields = parse_qs(call.body.decode("utf-8", "replace"), max_num_fields=10)
        onward = safe_target(fields.get("next", ["/"])[0])
        secret = fields.get("token", [""])[0].strip()
        try:
            session = await call.services.in_thread(lambda: gate.open_session(secret))
        except Unauthorized:
            return RedirectResponse(f"{SIGN_IN}?{urlencode({'failed': 1, 'next': onward})}", status_code=303)
        response = RedirectResponse(onward, status_code=303)
        response.set_cookie(
            COOKIE,
            session.cookie,
            expires=session.expires_at,
            httponly=True,
            samesite="lax",
            secure=call.request.url.scheme == "https",
        )
        return response

    async def sign_out(call: Call) -> Response:
        if call.session is not None:
            security.check_csrf(head_of(call.request), call.session.csrf)
            cookie = call.session.cookie
            await call.services.in_thread(lambda: gate.close_session(cookie))
        response = Response(b"null", media_type="application/json")
        response.delete_cookie(COOKIE)
        return response

    return [
        RouteSpec("POST", SIGN_IN, PUBLIC, sign_in, content_types=(FORM,)),
        RouteSpec("POST", "/logout", PUBLIC, sign_out),
    ]


def safe_target(path: str) -> str:
    """`path`, if it leads to a page of this server; else the first page.

    Raises:
        Invalid: it holds a control character.
    """
    if any(ord(character) < 32 or character == "\x7f" for character in path):
        raise Invalid("the target holds a control character", where="next")
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
