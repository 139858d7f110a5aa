"""What the operating system refuses, and what is damaged, said as errors of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from loopwright.core import Corrupt, Unavailable

_ADVICE = {
    errno.ENOSPC: "free some space and try again",
    errno.EDQUOT: "free some space and try again",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "make the place writable, or choose another workspace",
}


@contextmanager
def spoken(doing: str) -> Iterator[None]:
    """Turn an error of the operating system into one of ours.

    Raises:
        Unavailable: a file cannot be read or written: no space, no permission, a broken disk.
    """
    try:
        yield
    except OSError as error:
        what = f"{doing}: {error.strerror or error}" + (f": {error.filename!r}" if error.filename else "")
        raise Unavailable(what, next_step=_ADVICE.get(error.errno or 0, "run loopwright doctor")) from error


@contextmanager
def readable(ref: str) -> Iterator[None]:
    """Turn an error of reading stored rows into one of ours.

    Raises:
        Corrupt: the files are damaged or gone.
    """
    import polars as pl

    try:
        yield
    except (pl.exceptions.ComputeError, pl.exceptions.PanicException, FileNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Corrupt(
            f"the rows of {ref} cannot be read: {reason}",
            next_step="run loopwright fsck; restore the table's folder from a backup",
        ) from error
