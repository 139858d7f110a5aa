"""The error tree. The class says what kind of trouble it is; the message says fact, value and next step.

LoopwrightError
├── Invalid        what was asked is malformed or breaks a rule          exit 2, HTTP 400
├── Unauthorized   nobody is known behind the request                    exit 2, HTTP 401
├── Forbidden      the caller may not do this                            exit 2, HTTP 403
├── NotFound       no such thing                                         exit 3, HTTP 404
├── Conflict       the thing is in a state that rules this out           exit 3, HTTP 409
├── Unavailable    a part that is needed does not answer, or is full     exit 4, HTTP 503
└── Corrupt        stored bytes are not what was written                 exit 5, HTTP 500
"""

from __future__ import annotations

from typing import ClassVar


class LoopwrightError(Exception):
    """Base of every error that Loopwright raises on purpose."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, where: str = "", next_step: str = "") -> None:
        """Args:
        message: the fact with its value, in one sentence.
        where: the place it was found: a file and line, a column, a field of a request.
        next_step: what the reader can do now, often a command.
        """
        super().__init__(message)
        self.message = message
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.next_step})" if self.next_step else text


class Invalid(LoopwrightError):
    code, exit_code, http_status = "invalid", 2, 400


class Unauthorized(LoopwrightError):
    code, exit_code, http_status = "unauthorized", 2, 401


class Forbidden(LoopwrightError):
    code, exit_code, http_status = "forbidden", 2, 403


class NotFound(LoopwrightError):
    code, exit_code, http_status = "not_found", 3, 404


class Conflict(LoopwrightError):
    code, exit_code, http_status = "conflict", 3, 409


class Unavailable(LoopwrightError):
    code, exit_code, http_status = "unavailable", 4, 503


class Corrupt(LoopwrightError):
    code, exit_code, http_status = "corrupt", 5, 500


KINDS: dict[str, type[LoopwrightError]] = {
    kind.code: kind for kind in (Invalid, Unauthorized, Forbidden, NotFound, Conflict, Unavailable, Corrupt)
}


def missing_extra(package: str, extra: str, purpose: str) -> Invalid:
    """The error for an optional library that is not installed."""
    return Invalid(
        f"{purpose} needs the package {package!r}, which is not installed",
        next_step=f"pip install 'loopwright[{extra}]'",
    )
