"""The rules that every request meets before anything is read from it (DESIGN §7): pure functions of its head."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loopwright.core import Forbidden, Invalid
from loopwright.server.errors import WrongType
from loopwright.server.settings import ServerSettings, is_loopback

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "loopwright-csrf"
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_BROWSER_SIGNS = ("origin", "sec-fetch-site", "cookie")


class Head(msgspec.Struct, frozen=True):
    """What the rules look at. `headers` has lower-case names; `peer` is the address of the other end of the socket."""

    method: str
    peer: str
    headers: Mapping[str, str]

    @property
    def safe(self) -> bool:
        return self.method in SAFE_METHODS

    @property
    def host(self) -> str:
        return self.headers.get("host", "").lower()


def check_host(head: Head, settings: ServerSettings) -> None:
    """Refuse a Host that is not exactly one of ours: it stops DNS rebinding.

    Raises:
        Invalid: it is another one.
    """
    if head.host not in settings.hosts:
        raise Invalid(
            f"this server does not answer to the host {head.host[:100]!r}",
            where="Host",
            next_step="use the address that it printed, or start it with --allow-host NAME:PORT",
        )


def check_origin(head: Head, settings: ServerSettings) -> None:
    """Refuse an unsafe request that another site's page sent.

    Raises:
        Forbidden: Origin is not one of ours, or Sec-Fetch-Site says cross-site.
    """
    if head.safe:
        return
    origin = head.headers.get("origin")
    if origin is not None and origin.lower() not in _origins(settings):
        raise Forbidden(f"a page of {origin[:100]!r} may not change anything here", where="Origin")
    if head.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Forbidden("a page of another site may not change anything here", where="Sec-Fetch-Site")


def _origins(settings: ServerSettings) -> set[str]:
    return {f"{scheme}://{host}" for scheme in ("http", "https") for host in settings.hosts}


def is_local(head: Head, settings: ServerSettings) -> bool:
    """Whether the request comes from this machine, straight, to a server in local mode."""
    forwarded = any(name in head.headers for name in _FORWARDING)
    name = head.host.rpartition(":")[0] or head.host
    return settings.local_mode and not forwarded and is_loopback(head.peer) and is_loopback(name)


def check_csrf(head: Head, expected: str | None, *, protocol: bool = False) -> None:
    """Refuse an unsafe request that leans on who sends it (a session, the local machine) without the CSRF header,
    which a page of another site cannot set.

    Args:
        head: the request's head.
        expected: the session's value; None for the local user, for whom any value will do.
        protocol: a route of a foreign protocol, whose unmodified clients cannot send the header: a local request
            without any sign of a browser passes.

    Raises:
        Forbidden: the header is missing, or has another value.
    """
    if head.safe:
        return
    if protocol and expected is None and not any(sign in head.headers for sign in _BROWSER_SIGNS):
        return
    given = head.headers.get(CSRF_HEADER, "")
    if not given or (expected is not None and given != expected):
        raise Forbidden(
            "a change needs a bearer token or the CSRF header",
            where="Loopwright-CSRF",
            next_step="from a program on this machine, send the header 'Loopwright-CSRF: 1'",
        )


def check_content_type(head: Head, accepted: tuple[str, ...]) -> None:
    """Refuse a body of a type that the route does not name, exactly; an empty name accepts a missing header, and
    `*/*` any type, for a body that nothing parses.

    Raises:
        WrongType: it is another type.
    """
    given = head.headers.get("content-type", "")
    if not head.safe and given.lower() not in accepted and "*/*" not in accepted:
        raise WrongType(
            f"the content type is {given[:100]!r}",
            where="Content-Type",
            next_step=f"send {' or '.join(repr(name) for name in accepted if name)}",
        )
