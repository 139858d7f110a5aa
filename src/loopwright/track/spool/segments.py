"""The files of a spool: room that is reserved on the disk before it is used, and mapped into memory."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import NamedTuple

from loopwright.core import new_id

_SUFFIX = ".segment"
_SPARE = ".spare"
_ZEROS = bytes(1 << 20)
_POPULATE: int = getattr(mmap, "MAP_POPULATE", 0)
CAN_PREPARE = os.name != "nt"  # Windows renames no file that is mapped
# What a file system answers that cannot reserve room ahead.
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Spare(NamedTuple):
    """A segment that is made ahead of its use."""

    path: Path
    map: mmap.mmap


def make_segment(path: Path, size_bytes: int) -> mmap.mmap:
    """A zeroed, writable map of a new file, for which the disk has reserved all room: a full disk is an error here and
    never a crash at a later write.

    Raises:
        OSError: the disk is full, the folder cannot be written, or the file is there already.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o600)
    try:
        _reserve(descriptor, size_bytes)
        if os.name == "nt":
            return mmap.mmap(descriptor, size_bytes)
        return mmap.mmap(descriptor, size_bytes, flags=mmap.MAP_SHARED | _POPULATE)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def make_spare(folder: Path, size_bytes: int) -> Spare:
    """A segment that has no place in the row yet, under a name of its own.

    Raises:
        OSError: as for `make_segment`.
    """
    path = folder / f"{new_id()}{_SPARE}"
    return Spare(path, make_segment(path, size_bytes))


def _reserve(descriptor: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    left = size_bytes
    while left > 0:
        left -= os.write(descriptor, _ZEROS[:left])


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}{_SUFFIX}"


def segments_in(folder: Path) -> list[int]:
    """The numbers of the segments in a folder, oldest first; none if the folder is gone."""
    try:
        return sorted(int(path.stem) for path in folder.iterdir() if path.suffix == _SUFFIX and path.stem.isdecimal())
    except FileNotFoundError:
        return []


def read_part(folder: Path, number: int, start: int, end: int | None = None) -> bytes:
    """The bytes of a segment from `start` to `end` (its size by default); empty if it is gone."""
    try:
        with segment_path(folder, number).open("rb") as file:
            file.seek(start)
            return file.read() if end is None else file.read(end - start)
    except FileNotFoundError:
        return b""
