"""gRPC's status codes, and how errors and times are told by them.

https://github.com/grpc/grpc, `doc/statuscodes.md` and `doc/PROTOCOL-HTTP2.md`.
"""

from __future__ import annotations

import sys
import traceback
from enum import IntEnum

from loopwright.core import LoopwrightError


class Code(IntEnum):
    """How a call ended."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.FAILED_PRECONDITION: 409,
    Code.UNIMPLEMENTED: 404,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
"""The HTTP status of the same outcome; 500 for any other."""
FAULTS = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
"""Codes that count as errors of a server in traces (OpenTelemetry, semantic conventions for RPC)."""
_CODES = {
    "invalid": Code.INVALID_ARGUMENT,
    "unauthorized": Code.UNAUTHENTICATED,
    "forbidden": Code.PERMISSION_DENIED,
    "not_found": Code.NOT_FOUND,
    "conflict": Code.FAILED_PRECONDITION,
    "unavailable": Code.UNAVAILABLE,
    "corrupt": Code.DATA_LOSS,
    "too_large": Code.RESOURCE_EXHAUSTED,
    "unimplemented": Code.UNIMPLEMENTED,
}
_UNITS_NS = {"H": 3_600_000_000_000, "M": 60_000_000_000, "S": 1_000_000_000, "m": 1_000_000, "u": 1_000, "n": 1}
_MOST_DIGITS = 8


class TooLarge(LoopwrightError):
    """A message, or all that arrive at once, is larger than is taken."""

    code, http_status = "too_large", 413


class Unimplemented(LoopwrightError):
    """A method, or a way to compress, that is not offered."""

    code, http_status = "unimplemented", 404


def code_of(error: Exception) -> tuple[Code, str]:
    """An error's code and text; one that nobody raised on purpose is reported in full, and not shown to the caller."""
    if isinstance(error, LoopwrightError):
        return _CODES.get(error.code, Code.INTERNAL), str(error)
    traceback.print_exception(error, file=sys.stderr)
    return Code.INTERNAL, "the server failed on this request"


def timeout_ns(text: bytes) -> int:
    """A `grpc-timeout` in nanoseconds; 0 for none, or for one that cannot be read, as the call has no limit then."""
    number, unit = text[:-1], text[-1:].decode("latin-1")
    if not number.isdigit() or len(number) > _MOST_DIGITS or unit not in _UNITS_NS:
        return 0
    return max(1, int(number) * _UNITS_NS[unit])
