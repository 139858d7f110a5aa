"""The files of a journal: how they are named, begun, found and known to be finished."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from loopwright.core import new_id
from loopwright.store.journal.frames import SIGNATURE, end_frame
from loopwright.store.journal.model import Segment

_SUFFIX = ".journal"
_KEEP_SIZE = 1  # for `fallocate`: room behind the end of a file


def begin_segment(folder: Path) -> tuple[str, int]:
    """A new segment: its name, and a file descriptor that is locked for as long as its writer lives.

    It appears under its name only when it is locked, so that no reader takes it for a finished one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = new_id()
    fresh = folder / f"{name}.new"
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
    try:
        _lock(descriptor)
        os.write(descriptor, SIGNATURE)
        fresh.rename(path_of(folder, name))
        sync_folder(folder)
    except BaseException:
        os.close(descriptor)
        fresh.unlink(missing_ok=True)
        raise
    return name, descriptor


def reserve_room(descriptor: int, size: int) -> None:
    """Have the disk keep room for a file of so many bytes, which stays as short as it is, where the system can.

    A write that needs no new room does not wait for what the system is writing down of others.
    """
    if sys.platform == "linux":
        reserve = ctypes.CDLL(None).fallocate
        reserve.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        reserve(descriptor, _KEEP_SIZE, 0, size)  # without it, writes find room themselves, or say that there is none


def give_back_room(descriptor: int) -> None:
    """Keep no more room for a file than what is in it, which nobody may be writing to."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size)


def path_of(folder: Path, name: str) -> Path:
    """The file of a segment."""
    return folder / f"{name}{_SUFFIX}"


def names_in(folder: Path) -> list[str]:
    """The names of the segments in a folder, oldest first. A folder that is not there has none."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sorted(entry.name.removesuffix(_SUFFIX) for entry in entries if entry.name.endswith(_SUFFIX))
    return []


def describe(folder: Path, name: str) -> Segment | None:
    """What is known of a segment from outside; None when it is gone."""
    path = path_of(folder, name)
    try:
        return Segment(name, path.stat().st_size, not _is_finished(path))
    except FileNotFoundError:
        return None


def _is_finished(path: Path) -> bool:
    with path.open("rb") as file:
        closing = end_frame()
        if file.seek(0, os.SEEK_END) >= len(closing):
            file.seek(-len(closing), os.SEEK_END)
            if file.read() == closing:
                return True
        return _writer_is_dead(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a new or removed name in a folder survive a power cut, where the system lets one ask for it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":

    def _lock(_descriptor: int) -> None:
        """Windows does not lock: only a segment's closing frame says that it is finished."""

    def _writer_is_dead(_descriptor: int) -> bool:
        return False

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _writer_is_dead(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
