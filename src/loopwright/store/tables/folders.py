"""The folders that tables live in: made by one writer at a time, found, and taken away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopwright.core import digest_bytes, new_id
from loopwright.store.tables.faults import spoken

_LOCKS = ".creating"


@contextmanager
def turn_to_create(folder: Path | None, key: str) -> Iterator[None]:
    """In a folder the writers that make a table take turns, so that one that fails can clear up after itself. Without
    one (the tables are elsewhere) there is no waiting: there a conditional put decides."""
    if folder is None:
        yield
        return
    from filelock import FileLock

    locks = folder / _LOCKS
    with spoken(key):
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{digest_bytes(key.encode())[:32]}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def tidy_up(folder: Path | None, key: str) -> None:
    """Remove what a failed first write left: data files that no log entry names."""
    if folder is None:
        return
    table = folder / key
    if table.is_dir() and not (table / "_delta_log").exists():
        shutil.rmtree(table, ignore_errors=True)


def remove(table: Path) -> None:
    """Remove a table's folder, if it is there; out of its readers' sight at once."""
    if table.is_dir():
        doomed = table.with_name(f".deleted-{new_id()}")
        table.rename(doomed)
        shutil.rmtree(doomed)


def table_folders(filesystem: Any, folder: str) -> Iterator[str]:
    """The folders of tables below a folder; a table holds no tables, and what starts with a dot is not one."""
    if not filesystem.isdir(folder):
        return
    found = [info["name"].rstrip("/") for info in filesystem.ls(folder, detail=True) if info["type"] == "directory"]
    names = {path.rsplit("/", 1)[-1]: path for path in found}
    if "_delta_log" in names:
        yield folder
        return
    for name, path in names.items():
        if not name.startswith("."):
            yield from table_folders(filesystem, path)
