"""Our kinds of errors in MLflow's shape: `{"error_code": ..., "message": ...}` with the status that its clients expect.

The statuses matter beyond their meaning: a client sends a request again on 408, 429, 500, 502, 503 and 504, for
minutes. So a conflict (a param with another value, a deleted run) is 400, as it is with MLflow's own server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from loopwright.core import (
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    LoopwrightError,
    NotFound,
    Unauthorized,
    Unavailable,
)
from loopwright.server.errors import BodyTooLarge, UnknownRoute, WrongMethod, WrongType
from loopwright.server.route import JSON

if TYPE_CHECKING:
    from starlette.requests import Request


class AlreadyExists(Conflict):
    """A thing of that name is there already."""

    code, http_status = "already_exists", 400


class Unsupported(Invalid):
    """A part of MLflow's protocol that this server does not have."""

    code, http_status = "not_implemented", 501


class Unprocessable(Invalid):
    """A request that can be read, of which a part cannot be taken."""

    code, http_status = "unprocessable", 422


_CODES: tuple[tuple[type[LoopwrightError], str, int], ...] = (
    (AlreadyExists, "RESOURCE_ALREADY_EXISTS", 400),
    (Unsupported, "NOT_IMPLEMENTED", 501),
    (UnknownRoute, "ENDPOINT_NOT_FOUND", 404),
    (WrongMethod, "BAD_REQUEST", 405),
    (WrongType, "BAD_REQUEST", 415),
    (BodyTooLarge, "BAD_REQUEST", 413),
    (Unprocessable, "INVALID_PARAMETER_VALUE", 422),
    (Invalid, "INVALID_PARAMETER_VALUE", 400),
    (Unauthorized, "UNAUTHENTICATED", 401),
    (Forbidden, "PERMISSION_DENIED", 403),
    (NotFound, "RESOURCE_DOES_NOT_EXIST", 404),
    (Conflict, "INVALID_PARAMETER_VALUE", 400),
    (Unavailable, "TEMPORARILY_UNAVAILABLE", 503),
    (Corrupt, "DATA_LOSS", 500),
    (LoopwrightError, "INTERNAL_ERROR", 500),
)
"""The first row that fits counts."""


def code_of(error: LoopwrightError) -> tuple[str, int]:
    """MLflow's code for an error, and the HTTP status that goes with it."""
    return next((code, status) for kind, code, status in _CODES if isinstance(error, kind))


def mlflow_error(_request: Request, error: LoopwrightError) -> Response:
    """The reply for an error, with the next step as a part of the message."""
    code, status = code_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = "1"
    body = msgspec.json.encode({"error_code": code, "message": str(error)})
    return Response(body, status_code=status, media_type=JSON, headers=headers)
