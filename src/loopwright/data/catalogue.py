"""Which datasets and versions there are: the queries of this room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, Row, and_, select

from loopwright.core import Invalid, NotFound, Ref, parse_ref
from loopwright.data.dtypes import load_dtypes, schema_of
from loopwright.data.model import DatasetSummary, DatasetVersion, Kind
from loopwright.data.tables import dataset_versions as versions
from loopwright.data.tables import datasets

if TYPE_CHECKING:
    import polars as pl

    from loopwright.store import Database


Versions: TypeAlias = list[DatasetVersion]  # the classes' own `list` hides the builtin


class Catalogue:
    """The datasets of one project."""

    def __init__(self, db: Database, project: str) -> None:
        self._db, self._project = db, project

    def head(self, name: str, connection: Connection | None = None) -> DatasetVersion | None:
        """The newest version, if the dataset exists."""
        query = _newest().where(datasets.c.project == self._project, datasets.c.name == name)
        rows = self._rows(query, connection)
        return record(rows[0]) if rows else None

    def version(self, ref: str | Ref) -> DatasetVersion:
        """The version that a ref names; the newest if it names none.

        Raises:
            NotFound: there is no such dataset or version.
            Invalid: the ref is malformed.
        """
        wanted = parse_ref(ref, "dataset") if isinstance(ref, str) else ref
        if wanted.alias:
            raise Invalid(f"{str(wanted)!r}: a dataset has no aliases", next_step="name a version by its number")
        head = self.head(wanted.name)
        if head is None:
            raise NotFound(f"there is no dataset {wanted.name!r}", next_step="loopwright datasets list shows them all")
        if wanted.version is None or wanted.version == head.version:
            return head
        rows = self._rows(select(versions).where(self._of(wanted.name), versions.c.version == wanted.version))
        if not rows:
            raise NotFound(
                f"dataset {wanted.name!r} has no version {wanted.version}; the newest is {head.version}",
                next_step=f"loopwright datasets versions {wanted.name}",
            )
        return record(rows[0])

    def columns(self, version: DatasetVersion) -> dict[str, pl.DataType]:
        """The stored types of a table's columns."""
        query = select(versions.c.columns).where(self._of(version.name), versions.c.version == version.version)
        return load_dtypes(self._rows(query)[0].columns)

    def once(self, name: str, key: str) -> DatasetVersion | None:
        """The version that was made under an idempotency key, if there is one."""
        rows = self._rows(select(versions).where(self._of(name), versions.c.once == key))
        return record(rows[0]) if rows else None

    def list(self, limit: int, after: str) -> list[DatasetSummary]:
        """Datasets by name, behind `after`."""
        query = _newest().add_columns(datasets.c.created_at.label("first_at"))
        query = query.where(datasets.c.project == self._project, datasets.c.name > after)
        rows = self._rows(query.order_by(datasets.c.name).limit(limit))
        return [DatasetSummary(row.name, Kind(row.kind), row.version, row.first_at, record(row)) for row in rows]

    def history(self, name: str, limit: int, after: str) -> Versions:
        """The versions of a dataset older than `after`, newest first."""
        self.version(Ref("dataset", name))
        query = select(versions).where(self._of(name))
        if after:
            query = query.where(versions.c.version < int(after))
        return [record(row) for row in self._rows(query.order_by(versions.c.version.desc()).limit(limit))]

    def first_of_chain(self, version: DatasetVersion) -> int:
        """The version that replaced all rows last, at or before this one: the start of its chain of appends."""
        query = select(versions.c.version).where(
            self._of(version.name), versions.c.version <= version.version, versions.c.parent.is_(None)
        )
        return int(self._rows(query.order_by(versions.c.version.desc()).limit(1))[0].version)

    def _of(self, name: str) -> Any:
        return and_(versions.c.project == self._project, versions.c.name == name)

    def _rows(self, query: Any, connection: Connection | None = None) -> Sequence[Row[Any]]:
        if connection is not None:
            return connection.execute(query).all()
        with self._db.read() as reading:
            return reading.execute(query).all()


def _newest() -> Any:
    same = and_(
        versions.c.project == datasets.c.project,
        versions.c.name == datasets.c.name,
        versions.c.version == datasets.c.head,
    )
    return select(versions).select_from(datasets.join(versions, same))


def record(row: Row[Any]) -> DatasetVersion:
    """The record behind a row."""
    values = row._mapping
    columns = values["columns"]
    return DatasetVersion(
        name=values["name"],
        version=values["version"],
        ref=f"dataset:{values['name']}@{values['version']}",
        kind=Kind(values["kind"]),
        digest=values["digest"],
        rows=values["rows"],
        size_bytes=values["size_bytes"],
        schema=schema_of(load_dtypes(columns)) if columns is not None else None,
        created_at=values["created_at"],
        actor=values["actor"],
        source=values["source"],
        message=values["message"],
        parent=values["parent"],
        table_version=values["table_version"],
        part_digest=values["part_digest"],
    )
