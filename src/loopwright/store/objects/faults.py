"""The errors of file systems, said in the store's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from loopwright.core import Corrupt, Invalid, LoopwrightError, NotFound, Unavailable, is_digest

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def check_digest(digest: str) -> str:
    """`digest`, if it has the form of one.

    Raises:
        Invalid: it has not.
    """
    if is_digest(digest):
        return digest
    raise Invalid(f"{digest!r} is not a digest", next_step="a digest has 64 lower-case hex digits")


def no_object(digest: str) -> NotFound:
    """The error for an object that is not in the store."""
    return NotFound(f"there is no object {digest}", next_step="run loopwright fsck to see what else is missing")


def flipped(digest: str, found: str) -> Corrupt:
    """The error for an object whose bytes are not those that were put."""
    return Corrupt(
        f"object {digest} is damaged: its bytes now have the digest {found}",
        next_step="restore it from a backup or put the same content again after deleting it; run loopwright fsck",
    )


def unavailable(error: Exception, where: str) -> Unavailable:
    """The error for a place that does not take or give bytes."""
    number = getattr(error, "errno", None)
    if number in _FULL:
        return Unavailable(f"there is no space left at {where}", next_step="free some space and try again")
    if number in _READ_ONLY or isinstance(error, PermissionError):
        return Unavailable(f"{where} cannot be written or read", next_step="check its permissions")
    return Unavailable(f"{where} does not answer: {error}", next_step="run loopwright doctor")


@contextmanager
def spoken(where: str) -> Iterator[None]:
    """Turn what a file system or its client raises into an error of ours. FileNotFoundError passes: it has a meaning.

    Raises:
        Unavailable: the place is full, read-only, or does not answer.
    """
    try:
        yield
    except (LoopwrightError, FileNotFoundError):
        raise
    except OSError as error:
        raise unavailable(error, where) from error
    except Exception as error:
        # A client of an outside store raises its own types (botocore, aiohttp, paramiko); ours must not leak them.
        if type(error).__module__.split(".")[0] in _CLIENTS:
            raise unavailable(error, where) from error
        raise


_CLIENTS = {"botocore", "aiobotocore", "aiohttp", "boto3", "google", "gcsfs", "azure", "adlfs", "paramiko"}
