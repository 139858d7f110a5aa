"""Where an owner's files are in the database: one table for runs, one for everything else, asked in the same way."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, case, delete, func, select

from loopwright.core import Conflict, NotFound
from loopwright.store import Database
from loopwright.track.files.model import Entry, Owner, OwnerKind
from loopwright.track.files.tables import kept_files
from loopwright.track.logged.reading import any_logged_model, the_logged_model
from loopwright.track.model import Artifact
from loopwright.track.reading import any_run, the_run
from loopwright.track.tables import run_artifacts
from loopwright.track.traces.reading import the_trace


class Shelf(msgspec.Struct, frozen=True):
    """The rows of one owner's files: a table, and the values that are the same in all of them."""

    owner: Owner
    table: Table
    key: dict[str, Any]

    def mine(self) -> list[ColumnElement[bool]]:
        """The condition that a row is this owner's."""
        return [self.table.c[name] == value for name, value in self.key.items()]


def find_shelf(connection: Connection, project: str, owner: Owner, *, for_change: bool = False) -> Shelf:
    """The shelf of an owner.

    Raises:
        NotFound: there is no such owner.
        Conflict: its files are to be changed, and it is deleted.
    """
    if owner.kind is OwnerKind.RUN:
        run = (the_run if for_change else any_run)(connection, project, owner.id)
        return Shelf(owner, run_artifacts, {"run_seq": run.seq})
    if owner.kind is OwnerKind.MODEL:
        (the_logged_model if for_change else any_logged_model)(connection, project, owner.id)
    else:
        the_trace(connection, project, owner.id)
    return Shelf(owner, kept_files, {"project": project, "owner": str(owner)})


def files_of(connection: Connection, shelf: Shelf, folder: str = "") -> list[Artifact]:
    """The files on a shelf, or those below a folder, by path."""
    columns = shelf.table.c
    query = select(columns.path, columns.digest, columns.size_bytes, columns.created_at).where(*shelf.mine())
    if folder:
        query = query.where(_below(columns.path, folder))
    found = [Artifact(row.path, row.digest, row.size_bytes, row.created_at) for row in connection.execute(query)]
    return sorted(found, key=lambda item: item.path)


def entries_of(database: Database, connection: Connection, shelf: Shelf, folder: str) -> list[Entry]:
    """What lies straight in a folder of a shelf, by name; however much lies deeper, it is not read."""
    columns = shelf.table.c
    rest: Any = func.substr(columns.path, len(folder) + 2) if folder else columns.path
    find = func.instr if database.dialect == "sqlite" else func.strpos
    slash = find(rest, "/")
    name = case((slash == 0, rest), else_=func.substr(rest, 1, slash - 1)).label("name")
    is_folder = case((slash == 0, 0), else_=1).label("is_folder")
    query = select(name, is_folder, func.max(columns.size_bytes).label("size")).where(*shelf.mine())
    if folder:
        query = query.where(_below(columns.path, folder))
    rows = connection.execute(query.group_by(name, is_folder)).all()
    prefix = f"{folder}/" if folder else ""
    found = [Entry(prefix + row.name, bool(row.is_folder), 0 if row.is_folder else row.size) for row in rows]
    return sorted(found, key=lambda item: item.path)


def the_file(connection: Connection, shelf: Shelf, path: str) -> Artifact:
    """One file of a shelf.

    Raises:
        NotFound: there is none at that path.
    """
    columns = shelf.table.c
    query = select(columns.path, columns.digest, columns.size_bytes, columns.created_at)
    row = connection.execute(query.where(*shelf.mine(), columns.path == path)).one_or_none()
    if row is None:
        raise NotFound(f"{shelf.owner} has no file {path[:200]!r}", next_step="list what there is first")
    return Artifact(row.path, row.digest, row.size_bytes, row.created_at)


def put_file(database: Database, tx: Connection, shelf: Shelf, file: Artifact) -> None:
    """Note a file down; one at the same path is replaced.

    Raises:
        Conflict: a part of its path is a file, or it is a folder itself.
    """
    parts = file.path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    taken = select(shelf.table.c.path).where(*shelf.mine(), shelf.table.c.path.in_(above)).limit(1)
    found = tx.execute(taken).scalar() if above else None
    if found is not None:
        raise Conflict(
            f"{found!r} is a file and cannot be a folder", next_step=f"choose another path than {file.path!r}"
        )
    if _is_folder(database, tx, shelf, file.path):
        raise Conflict(f"{file.path!r} is a folder and cannot be a file", next_step="choose another path")
    row = {
        **shelf.key,
        "path": file.path,
        "digest": file.digest,
        "size_bytes": file.size_bytes,
        "created_at": file.created_at,
    }
    changed = ["digest", "size_bytes", "created_at"]
    tx.execute(database.upsert(shelf.table, row, [*shelf.key, "path"], changed))


def _is_folder(database: Database, connection: Connection, shelf: Shelf, path: str) -> bool:
    column = shelf.table.c.path
    below = _below(column, path)
    if database.dialect == "sqlite":  # a range of the index, which PostgreSQL sorts by a language
        below = (column > f"{path}/") & (column < f"{path}0")
    return connection.execute(select(column).where(*shelf.mine(), below).limit(1)).scalar() is not None


def drop_files(tx: Connection, shelf: Shelf, path: str) -> int:
    """Forget the file at a path, or all below it; everything for an empty path. Returns how many."""
    columns = shelf.table.c
    where = [*shelf.mine(), (columns.path == path) | _below(columns.path, path)] if path else shelf.mine()
    return tx.execute(delete(shelf.table).where(*where)).rowcount


def _below(path: Any, folder: str) -> ColumnElement[bool]:
    """No LIKE: it ignores case on SQLite."""
    found: ColumnElement[bool] = func.substr(path, 1, len(folder) + 1) == f"{folder}/"
    return found
