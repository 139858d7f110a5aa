"""The folders of spools: where they are, whose they are, and whether their writers live.

<root>/<spool id>/about.json       where its runs belong
<root>/<spool id>/lock             locked for as long as its writer lives
<root>/<spool id>/00000001.segment
<root>/<spool id>/files/…          files that wait for their delivery
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import msgspec

from loopwright.core import Corrupt, is_id

_ABOUT = "about.json"
_LOCK = "lock"
FILES = "files"
RUNS = "runs"


class About(msgspec.Struct, frozen=True):
    """Where the runs of a spool belong, and who wrote it.

    where: the workspace's root folder, or its server's address.
    project: the project; empty for the one that the workspace's settings name.
    courier: the id of the spool whose process delivers this one, too: the process that this one was forked from.
    """

    where: str
    project: str
    pid: int = 0
    began_us: int = 0
    courier: str = ""


def make_folder(root: Path, spool: str, about: About) -> int:
    """A new spool's folder; returns the descriptor of its lock, to be kept open for as long as the writer lives.

    Raises:
        OSError: it cannot be written.
    """
    fresh = root / f"{spool}.new"  # it gets its name once it is locked, so that nobody takes it for a dead one's
    fresh.mkdir(parents=True, mode=0o700)
    descriptor = -1
    try:
        descriptor = os.open(fresh / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        take_lock(descriptor)
        (fresh / _ABOUT).write_bytes(msgspec.json.encode(about))
        fresh.rename(root / spool)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return descriptor


def spool_about(folder: Path) -> About:
    """What a spool says of itself.

    Raises:
        Corrupt: it says nothing that can be read.
    """
    try:
        return msgspec.json.decode((folder / _ABOUT).read_bytes(), type=About)
    except (OSError, msgspec.DecodeError) as error:
        raise Corrupt(f"the spool does not say where it belongs: {error}", where=str(folder / _ABOUT)) from None


def spools_in(root: Path) -> list[Path]:
    """The folders of the spools below a root, oldest first; not one that is being removed."""
    try:
        return sorted(path for path in root.iterdir() if is_id(path.name) and (path / _ABOUT).exists())
    except FileNotFoundError:
        return []


def adopt(folder: Path) -> int | None:
    """Take a dead writer's lock; None while the writer, or another who adopted it, lives.

    Returns:
        the lock's descriptor, to be closed when done.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    if take_lock(descriptor) and folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def open_runs(folder: Path) -> set[str]:
    """The runs that began in a spool and have not ended."""
    try:
        return {path.name for path in (folder / RUNS).iterdir() if is_id(path.name)}
    except FileNotFoundError:
        return set()


def remove_folder(folder: Path) -> None:
    """Remove a spool of which everything is delivered."""
    # The lock goes last: whoever finds the folder half removed can adopt and finish it.
    for path in sorted(folder.rglob("*"), reverse=True):
        with contextlib.suppress(OSError):
            if path.name != _LOCK:
                path.rmdir() if path.is_dir() else path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


if sys.platform == "win32":
    import msvcrt

    def take_lock(descriptor: int) -> bool:
        """Lock a file for as long as this process keeps it open; False if another has it."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def take_lock(descriptor: int) -> bool:
        """Lock a file for as long as this process keeps it open; False if another has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
