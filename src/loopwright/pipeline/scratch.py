"""Folders for temporary files of a process, in the workspace so that large outputs fit; dead ones are swept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopwright.core import Unavailable, new_id


@contextmanager
def scratch_folder(data: Path) -> Iterator[Path]:
    """A new folder, removed at the end.

    Raises:
        Unavailable: it cannot be made.
    """
    parent = data / "scratch"
    folder = parent / f"{os.getpid()}-{new_id()}"
    try:
        folder.mkdir(parents=True)
        _sweep(parent)
    except OSError as error:
        raise Unavailable(
            f"the folder {folder} cannot be made: {error.strerror or error}", next_step="free some space"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    import psutil

    for path in parent.iterdir():
        pid = path.name.partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
