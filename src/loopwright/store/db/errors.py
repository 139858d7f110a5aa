"""What a database library says, in the words of Loopwright's error tree."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from loopwright.core import Conflict, Corrupt, Invalid, LoopwrightError, Unavailable

_AGAIN = "try again"
_RESTORE = "restore it from a backup, or run: loopwright fsck"


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Within this context, errors of the database become LoopwrightErrors that name `place`.

    Errors of ours (a statement that the database does not understand) stay what they are: they are bugs.

    Raises:
        Unavailable: locked, unreachable, full, read-only, or interrupted by a concurrent change.
        Corrupt: the stored bytes are damaged.
        Invalid: a text cannot be stored.
        Conflict: a row breaks a constraint, mostly because another writer was first.
    """
    try:
        yield
    except exc.DBAPIError as error:
        told = explain(error, place)
        if told is None:
            raise
        raise told from error
    except exc.TimeoutError as error:
        raise Unavailable(
            f"no connection to {place} became free in time", next_step="ask for less at a time"
        ) from error
    except sqlite3.Error as error:
        told = _explain_sqlite(error, place)
        if told is None:
            raise
        raise told from error


def explain(error: exc.DBAPIError, place: str) -> LoopwrightError | None:
    """The LoopwrightError for a database error, or None where it is a bug of ours."""
    if isinstance(error, exc.IntegrityError):
        return Conflict(f"a row breaks a rule of the database: {_first_line(error.orig)}", next_step=_AGAIN)
    if isinstance(error.orig, sqlite3.Error):
        return _explain_sqlite(error.orig, place)
    return _explain_postgresql(error, place)


def _explain_sqlite(error: sqlite3.Error, place: str) -> LoopwrightError | None:
    match (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(f"the database file {place} is locked by another process", next_step=_AGAIN)
        case sqlite3.SQLITE_FULL:
            return Unavailable(f"the disk that holds the database file {place} is full", next_step="free some space")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return Unavailable(f"the database file {place} is read-only", next_step="make it and its folder writable")
        case sqlite3.SQLITE_CANTOPEN:
            return Unavailable(
                f"the database file {place} cannot be opened", next_step="check that its folder exists and is writable"
            )
        case sqlite3.SQLITE_IOERR:
            return Unavailable(f"the disk failed under the database file {place}: {error}", next_step="check the disk")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Corrupt(f"the database file {place} is damaged: {error}", next_step=_RESTORE)
    return None


def _explain_postgresql(error: exc.DBAPIError, place: str) -> LoopwrightError | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    if isinstance(error, exc.DataError) and not state and "NUL" in str(error.orig):
        return Invalid("a text holds a NUL character, which no text here may", next_step="take it out")
    if state in ("40001", "40P01"):
        return Unavailable("the database undid this change because of a concurrent one", next_step=_AGAIN)
    if state == "53100":
        return Unavailable(f"the disk of the database {place} is full", next_step="free some space")
    if state == "25006":
        return Unavailable(f"the database {place} is read-only", next_step="connect to the primary")
    if state in ("XX001", "XX002"):
        return Corrupt(f"the database {place} is damaged: {_first_line(error.orig)}", next_step="restore a backup")
    if error.connection_invalidated or state[:2] in ("08", "53", "57") or (not state and _is_operational(error)):
        return Unavailable(
            f"the database {place} does not answer: {_first_line(error.orig)}",
            next_step="check that the server runs and that the URL is right",
        )
    return None


def _is_operational(error: exc.DBAPIError) -> bool:
    return isinstance(error, exc.OperationalError | exc.InterfaceError)


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
