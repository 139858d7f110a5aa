"""Errors as replies: mapped once, without paths, SQL or traces."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

import msgspec

from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable

log = logging.getLogger("loopwright.server")

_ABSOLUTE = re.compile(r"(?<![\w:/.<])(?:[A-Za-z]:\\|/)(?:[^\s'\",:;()<>/\\]+[/\\])+([^\s'\",:;()<>/\\]*)")
_OWN = ("/api/", "/v2/", "/p/", "/login", "/openapi", "/metrics")


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong, where it was found and what to do next."""

    code: str
    message: str
    where: str = ""
    next_step: str = ""


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of each reply that is an error."""

    error: ErrorBody


class BodyTooLarge(Invalid):
    """A request body over the bound of its route."""

    code, http_status = "too_large", 413


class UnknownRoute(NotFound):
    """A path that no route has."""


class WrongMethod(Invalid):
    """A path that is asked for with a method that it does not have."""

    code, http_status = "method_not_allowed", 405


class WrongType(Invalid):
    """A body of a type that the route does not take."""

    code, http_status = "unsupported_media_type", 415


class Internal(LoopwrightError):
    """A defect of ours. The message names the request, under which the server's log has the rest."""

    code, exit_code, http_status = "internal", 5, 500


def conceal(text: str, concealed: Iterable[str] = ()) -> str:
    """The text without the given ones and with absolute paths cut down to their last part."""
    for secret in concealed:
        if len(secret) > 1:
            text = text.replace(secret, "…")
    return _ABSOLUTE.sub(lambda match: match[0] if match[0].startswith(_OWN) else f"…/{match[1]}", text)


def as_error(error: Exception, request_id: str) -> LoopwrightError:
    """The error to reply with: our own kinds as they are, anything else as a defect that is logged, not told."""
    if isinstance(error, LoopwrightError):
        if isinstance(error, Unavailable) or error.http_status >= 500:
            log.warning("request %s: %s", request_id, error)
        return error
    log.error("request %s failed", request_id, exc_info=error)
    return Internal(
        f"the server failed at request {request_id}", next_step="look for this id in the server's own output"
    )


def reply_for(error: LoopwrightError, concealed: Iterable[str] = ()) -> ErrorReply:
    """The reply that tells of an error."""
    secrets = tuple(concealed)
    parts = (conceal(text, secrets) for text in (error.message, error.where, error.next_step))
    return ErrorReply(ErrorBody(error.code, *parts))
