"""The errors of delta-rs, said in the store's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loopwright.core import Conflict, Corrupt, Invalid, LoopwrightError, NotFound, Unavailable

_FULL = ("no space left", "os error 28", "quota exceeded")
_READ_ONLY = ("permission denied", "read-only file system", "os error 13", "os error 30", "accessdenied", "forbidden")
_SILENT = ("error sending request", "timed out", "connection refused", "connect error", "dns error", "503 ", "500 ")


def no_table(key: str) -> NotFound:
    """The error for a table that was never written."""
    return NotFound(f"there is no table {key!r}", next_step="write it first")


@contextmanager
def spoken(key: str) -> Iterator[None]:
    """Turn what delta-rs raises into an error of ours.

    Raises:
        Conflict: another writer changed the same rows first.
        Invalid: the rows do not fit the table.
        NotFound: there is no such table.
        Unavailable: the place is full, read-only, or does not answer.
        Corrupt: the table's log cannot be understood.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

    try:
        yield
    except LoopwrightError:
        raise
    except TableNotFoundError:
        raise no_table(key) from None
    except CommitFailedError as error:
        raise _place(key, error) or Conflict(
            f"another writer changed the table {key!r} first: {_first_line(error)}", next_step="read it again and retry"
        ) from None
    except SchemaMismatchError as error:
        raise Invalid(f"the rows do not fit the table {key!r}: {_first_line(error)}") from None
    except OSError as error:
        raise _place(key, error) or Unavailable(
            f"the table {key!r} cannot be reached: {_first_line(error)}", next_step="run loopwright doctor"
        ) from error
    except DeltaError as error:
        raise _delta(key, error) from error
    except Exception as error:
        # delta-rs raises bare `Exception` for errors of its engine; those of Python have a subclass.
        if type(error) is not Exception:
            raise
        raise _delta(key, error) from error


def _delta(key: str, error: Exception) -> LoopwrightError:
    text = str(error).lower()
    if "merge matched a target row with multiple source rows" in text:
        return Invalid(
            f"the rows merged into {key!r} hold one key more than once", next_step="keep one row of each key"
        )
    if "a table already exists" in text:
        return Conflict(f"another writer made the table {key!r} at the same moment", next_step="try again")
    if "cast" in text or "schema" in text:
        return Invalid(f"the rows do not fit the table {key!r}: {_first_line(error)}")
    return _place(key, error) or Corrupt(
        f"the table {key!r} cannot be read: {_first_line(error)}",
        next_step="run loopwright fsck; restore the table's folder from a backup",
    )


def _place(key: str, error: Exception) -> Unavailable | None:
    text = str(error).lower()
    if any(sign in text for sign in _FULL):
        return Unavailable(f"there is no space left for the table {key!r}", next_step="free some space and try again")
    if any(sign in text for sign in _READ_ONLY):
        return Unavailable(f"the table {key!r} cannot be written or read", next_step="check the permissions")
    if any(sign in text for sign in _SILENT):
        return Unavailable(
            f"the place of the table {key!r} does not answer: {_first_line(error)}", next_step="run loopwright doctor"
        )
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
