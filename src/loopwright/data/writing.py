"""Make a version: rows or files first, then one transaction that shows them. A crash in between leaves no version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain as follow
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import insert, update

from loopwright.core import Conflict, Invalid, LoopwrightError, Scope
from loopwright.data.catalogue import Catalogue
from loopwright.data.contents import chain
from loopwright.data.dtypes import dump_dtypes, schema_of
from loopwright.data.incoming import Incoming
from loopwright.data.model import DatasetVersion, Kind, Mode
from loopwright.data.sources.source import FileSource, RowSource, TypesWidened
from loopwright.data.tables import dataset_versions, datasets
from loopwright.data.turns import turn

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection

    from loopwright.store import Stores

_COMPACT_EVERY = 32


class _Unchanged(Exception):  # no error: it undoes a write whose content is there already
    pass


class _Dirty(Exception):
    """The Delta table held rows behind the parent's that no version names: a writer died there."""


class Origin(msgspec.Struct, frozen=True):
    """What is recorded about the making of a version besides its content."""

    source: str
    message: str = ""
    once: str = ""
    derived_from: tuple[str, ...] = ()


class VersionWriter:
    """Writes versions of one project's datasets. One writer per dataset at a time; others wait.

    Turns only keep writers out of each other's way. That no two of them mix is proved at the end, by the numbers of the
    Delta version and of the head: a turn that was lost costs a retry and never a row.
    """

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self._stores, self._scope = stores, scope
        self._catalogue = Catalogue(stores.db, scope.project)

    def _lock(self, name: str) -> str:
        return f"dataset {self._scope.project}/{name}"

    def table_key(self, name: str) -> str:
        """Where a dataset's rows are among the tables."""
        return f"datasets/{self._scope.project}/{name}"

    def write_rows(self, name: str, source: RowSource, mode: Mode, origin: Origin) -> DatasetVersion:
        """Make a version of rows.

        Raises:
            Invalid: the rows do not fit.
            Conflict: the dataset is a tree, or another writer holds it for long.
        """
        clean = True
        while True:
            with suppress(TypesWidened), turn(self._stores, self._lock(name)) as renew:
                try:
                    return self._write_rows(name, source, mode, origin, renew, clean)
                except _Dirty:
                    clean = False

    def write_files(self, name: str, source: FileSource, origin: Origin) -> DatasetVersion:
        """Make a version of files.

        Raises:
            Conflict: the dataset is a table, or another writer holds it for long.
        """
        from loopwright.store import put_tree_entries, read_tree

        with turn(self._stores, self._lock(name)):
            head = self._head(name, Kind.TREE)
            digest = put_tree_entries(self._stores.objects, dict(source.entries))
            if head is not None and head.digest == digest:
                return head
            entries = read_tree(self._stores.objects, digest).entries
            made = self._version(
                name, head, None, Kind.TREE, digest, origin, rows=len(entries), size=sum(e.size_bytes for e in entries)
            )
            return self._commit(made, head, None, origin)

    def _write_rows(
        self, name: str, source: RowSource, mode: Mode, origin: Origin, renew: Any, clean: bool
    ) -> DatasetVersion:
        head = self._head(name, Kind.TABLE)
        parent = head if mode is Mode.APPEND else None
        incoming = Incoming(source, self._catalogue.columns(parent) if parent else None, name)

        def stop_if_unchanged() -> None:
            before = parent.digest if parent else ""
            same = head is not None and chain(before, incoming.digest.digest()) == head.digest
            if same or (parent is not None and not incoming.digest.rows):
                raise _Unchanged

        frames = incoming.frames(renew, stop_if_unchanged)
        try:
            table_version = self._store(name, parent, frames, clean)
        except _Unchanged:
            if head is None:
                raise
            return head
        part = incoming.digest.digest()
        made = self._version(
            name,
            head,
            parent,
            Kind.TABLE,
            chain(parent.digest if parent else "", part),
            origin,
            rows=incoming.digest.rows + (parent.rows if parent else 0),
            size=incoming.digest.size_bytes + (parent.size_bytes if parent else 0),
            part=part,
            table_version=table_version,
            schema=schema_of(incoming.columns),
        )
        made = self._commit(made, head, dump_dtypes(incoming.columns), origin)
        return self._tidied(made) if parent and made.version % _COMPACT_EVERY == 0 else made

    def _store(self, name: str, parent: DatasetVersion | None, frames: Iterator[pl.DataFrame], clean: bool) -> int:
        """Commit the rows to the Delta table; nobody sees them before a version names the Delta version.

        Raises:
            _Dirty: there were rows behind the parent's; now ours are behind those.
        """
        tables, key = self._stores.tables, self.table_key(name)
        if parent is None or parent.table_version is None:
            return tables.overwrite(key, frames)
        if not clean:
            return tables.overwrite(key, follow(tables.batches(key, parent.table_version), frames))
        after = tables.append(key, frames)
        if after != parent.table_version + 1:
            raise _Dirty
        return after

    def _commit(
        self, made: DatasetVersion, head: DatasetVersion | None, columns: list[list[Any]] | None, origin: Origin
    ) -> DatasetVersion:
        db, project = self._stores.db, self._scope.project
        with db.begin() as tx:
            db.lock(tx, self._lock(made.name))
            now = self._catalogue.head(made.name, tx)
            if (now.version if now else 0) != (head.version if head else 0):
                raise self._overtaken(made.name)
            row = {"project": project, "once": origin.once or None, "columns": columns, **_stored(made)}
            tx.execute(insert(dataset_versions).values(row))
            root = {
                "project": project,
                "name": made.name,
                "kind": made.kind.value,
                "head": made.version,
                "created_at": made.created_at,
            }
            tx.execute(db.upsert(datasets, root, ["project", "name"], ["head"]))
            self._tell(tx, made, origin)
        return made

    def _tell(self, tx: Connection, made: DatasetVersion, origin: Origin) -> None:
        stores, project = self._stores, self._scope.project
        attrs = {"rows": made.rows, "source": made.source}
        stores.lineage.node(tx, made.ref, digest=made.digest, attrs=attrs, project=project)
        for source in origin.derived_from:
            stores.lineage.edge(tx, source, made.ref, "derived", project=project)
        evidence = {
            "digest": made.digest,
            "kind": made.kind,
            "rows": made.rows,
            "size_bytes": made.size_bytes,
            "parent": made.parent,
            "source": made.source,
            "message": made.message,
        }
        stores.events.append(tx, "dataset.version_created", made.ref, self._scope, evidence)

    def _tidied(self, made: DatasetVersion) -> DatasetVersion:
        """Small files of many appends rewritten into large ones; the rows, and so the version, stay the same."""
        try:
            table_version = self._stores.tables.compact(self.table_key(made.name))
        except LoopwrightError:
            return made  # upkeep only: the version is committed, and the next turn tries again
        same = dataset_versions.c
        here = (same.project == self._scope.project, same.name == made.name, same.version == made.version)
        with self._stores.db.begin() as tx:
            tx.execute(update(dataset_versions).where(*here).values(table_version=table_version))
        return msgspec.structs.replace(made, table_version=table_version)

    def _head(self, name: str, kind: Kind) -> DatasetVersion | None:
        head = self._catalogue.head(name)
        if head is not None and head.kind is not kind:
            raise Conflict(f"dataset {name!r} is a {head.kind}, not a {kind}", next_step="ingest under another name")
        return head

    def _version(
        self,
        name: str,
        head: DatasetVersion | None,
        parent: DatasetVersion | None,
        kind: Kind,
        digest: str,
        origin: Origin,
        *,
        rows: int,
        size: int,
        part: str = "",
        table_version: int | None = None,
        schema: Any = None,
    ) -> DatasetVersion:
        number = head.version + 1 if head else 1
        return DatasetVersion(
            name=name,
            version=number,
            ref=f"dataset:{name}@{number}",
            kind=kind,
            digest=digest,
            rows=rows,
            size_bytes=size,
            schema=schema,
            created_at=self._stores.clock.now(),
            actor=self._scope.actor,
            source=origin.source,
            message=origin.message,
            parent=parent.version if parent else None,
            table_version=table_version,
            part_digest=part,
        )

    def _overtaken(self, name: str) -> Conflict:
        return Conflict(f"another writer changed dataset {name!r} at the same time", next_step="try again")


def _stored(made: DatasetVersion) -> Mapping[str, Any]:
    row = {name: getattr(made, name) for name in DatasetVersion.__struct_fields__}
    return {**{name: value for name, value in row.items() if name not in {"ref", "schema"}}, "kind": made.kind.value}


def mode_of(mode: str) -> Mode:
    """The mode of that name.

    Raises:
        Invalid: there is none.
    """
    try:
        return Mode(mode)
    except ValueError:
        raise Invalid(f"there is no mode {mode!r}", next_step="use 'replace' or 'append'") from None
