"""Files that a run keeps: bytes in the object store, paths in a table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from loopwright.core import Invalid, NotFound, check_path
from loopwright.store import Database, ObjectStore
from loopwright.track.model import Artifact
from loopwright.track.tables import run_artifacts


def store_source(objects: ObjectStore, source: Path | bytes, name: str, now: datetime) -> list[Artifact]:
    """Put a file, a folder's files or bytes into the object store.

    Args:
        source: what to keep.
        name: its path in the run; a file or folder is called as it is by default.

    Raises:
        Invalid: bytes without a name, a name that is no safe path, or a folder without a file.
        NotFound: there is no such file or folder.
    """
    if isinstance(source, bytes):
        if not name:
            raise Invalid("an artifact made of bytes needs a name", next_step="give its path in the run")
        return [Artifact(check_path(name), objects.put_bytes(source), len(source), now)]
    return [
        _store_file(objects, file, path, now) for file, path in files_to_keep(source, name or source.resolve().name)
    ]


def files_to_keep(source: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Each file of a file or folder, with its path in the run.

    Raises:
        NotFound: there is no such file or folder.
        Invalid: the folder holds no file, or a path is not safe.
    """
    if source.is_file():
        yield source, check_path(name)
        return
    if not source.is_dir():
        raise NotFound(f"there is no file or folder {str(source)!r}")
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise Invalid(f"the folder {str(source)!r} holds no file")
    for file in files:
        yield file, check_path(f"{name}/{file.relative_to(source).as_posix()}")


def _store_file(objects: ObjectStore, file: Path, path: str, now: datetime) -> Artifact:
    digest = objects.put_file(file)
    return Artifact(path, digest, objects.stat(digest).size_bytes, now)


def write_artifacts(database: Database, tx: Connection, run_seq: int, artifacts: list[Artifact]) -> None:
    """Note artifacts down; one at a path that is taken replaces it."""
    rows = [
        {
            "run_seq": run_seq,
            "path": item.path,
            "digest": item.digest,
            "size_bytes": item.size_bytes,
            "created_at": item.created_at,
        }
        for item in artifacts
    ]
    changed = ["digest", "size_bytes", "created_at"]
    tx.execute(database.upsert(run_artifacts, {}, ["run_seq", "path"], changed), rows)


def read_artifacts(connection: Connection, run_seq: int, folder: str) -> list[Artifact]:
    """The artifacts of a run, or of one folder of it, by path."""
    query = select(run_artifacts).where(run_artifacts.c.run_seq == run_seq)
    if folder:
        # No LIKE: it ignores case on SQLite.
        query = query.where(func.substr(run_artifacts.c.path, 1, len(folder) + 1) == f"{folder}/")
    return [_artifact(row) for row in connection.execute(query.order_by(run_artifacts.c.path))]


def the_artifact(connection: Connection, run: Row[Any], path: str) -> Artifact:
    """One artifact of a run.

    Raises:
        NotFound: the run has none at that path.
    """
    query = select(run_artifacts).where(run_artifacts.c.run_seq == run.seq, run_artifacts.c.path == path)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            f"run {run.id} has no artifact {path[:200]!r}", next_step=f"loopwright runs artifacts {run.id} lists them"
        )
    return _artifact(row)


def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(row.path, row.digest, row.size_bytes, row.created_at)
