"""What one can ask of datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import msgspec

from loopwright.core import Conflict, Invalid, Scope, check_name, operation, parse_ref
from loopwright.data.catalogue import Catalogue, Versions
from loopwright.data.checking import Checking
from loopwright.data.checks.suite import Suite
from loopwright.data.faults import readable, spoken
from loopwright.data.model import (
    CheckReport,
    Comparison,
    DatasetSummary,
    DatasetVersion,
    Kind,
    Preview,
    Profile,
    Quarantine,
)
from loopwright.data.profiling import Profiling
from loopwright.data.sources.opening import open_source, scratch_folder
from loopwright.data.sources.source import FileSource, ReadOptions
from loopwright.data.writing import Origin, VersionWriter, mode_of

if TYPE_CHECKING:
    import polars as pl

    from loopwright.stats import TableSketch
    from loopwright.store import Stores

_PREVIEW_ROWS = 50


class DatasetService:
    """Datasets of one project: named tables and file trees, each a line of immutable versions."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope
        self._catalogue = Catalogue(stores.db, scope.project)

    def ingest(
        self,
        name: str,
        source: Any,
        *,
        mode: str = "replace",
        format: str | None = None,
        message: str = "",
        null_values: Sequence[str] | None = None,
        once: str = "",
        derived_from: Sequence[str] = (),
    ) -> DatasetVersion:
        """Make a version of a dataset from files, a folder or a data frame; all of it becomes visible, or none.

        Content that the newest version has already makes no new one.

        Args:
            name: of the dataset; it is made if it is new.
            source: a path to CSV, Parquet or JSON lines (also `.gz`, or in a `.zip`); a folder of such, which is one
                table, or of any other files, which is a tree; a Polars, pandas or Arrow table; a Polars LazyFrame.
            mode: `replace` all rows, or `append` to them.
            format: `csv`, `jsonl`, `parquet` or `files`; by default by the file's name.
            message: why, for people.
            null_values: texts of a CSV file that mean "no value" in every column; by default `NA`, `NULL` and the
                like do, in columns that are otherwise numbers, truth values or times.
            once: an idempotency key: a second ingest with the same key gives the first one's version and does nothing.
            derived_from: refs that the content was computed from, for lineage.

        Raises:
            Invalid: the source is malformed (the message names file, line and column) or does not fit the dataset.
            NotFound: there is no such file.
            Conflict: the dataset is of the other kind, or another writer is at it.
            Unavailable: no space, no permission, no database.
        """
        check_name("dataset", name)
        chosen = mode_of(mode)
        if (made := self._made_before(name, once)) is not None:
            return made
        options = ReadOptions(self._scratch, null_values, self._wanted(name) if mode == "append" else {})
        with spoken(f"dataset {name!r} cannot be ingested"), open_source(source, format, options) as opened:
            origin = Origin(opened.described, message, once, tuple(derived_from))
            writer = VersionWriter(self.stores, self.scope)
            if not isinstance(opened, FileSource):
                return writer.write_rows(name, opened, chosen, origin)
            if mode == "append":
                raise Invalid(
                    f"{opened.described} holds files, not rows: it cannot be appended", next_step="use mode='replace'"
                )
            return writer.write_files(name, opened, origin)

    def ingest_sql(
        self,
        name: str,
        url: str,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        mode: str = "replace",
        message: str = "",
        once: str = "",
    ) -> DatasetVersion:
        """Make a version of a dataset from the rows of an SQL query, streamed. The password in the URL is not kept.

        Args:
            url: an SQLAlchemy URL, such as `postgresql://user:password@host/database`.
            query: one SELECT; `:name` in it takes `parameters["name"]`.

        Raises:
            Invalid: the URL or query is malformed, or the rows do not fit.
            Unavailable: the database does not answer.
        """
        from loopwright.data.sources.sql import sql_source

        check_name("dataset", name)
        chosen = mode_of(mode)
        if (made := self._made_before(name, once)) is not None:
            return made
        with (
            spoken(f"dataset {name!r} cannot be ingested"),
            scratch_folder(self._scratch) as scratch,
            sql_source(url, query, parameters or {}, scratch) as rows,
        ):
            origin = Origin(rows.described, message, once)
            return VersionWriter(self.stores, self.scope).write_rows(name, rows, chosen, origin)

    @operation("datasets.get", permission="datasets:read")
    def get(self, ref: str) -> DatasetVersion:
        """A version of a dataset: `flights@12`, or the newest: `flights`.

        Raises:
            NotFound: there is no such dataset or version.
        """
        return self._catalogue.version(ref)

    @operation("datasets.list", permission="datasets:read")
    def list(self, limit: int = 100, after: str = "") -> list[DatasetSummary]:
        """The datasets by name, each with its newest version; `after` is the last name of the page before."""
        return self._catalogue.list(limit, after)

    @operation("datasets.versions", permission="datasets:read")
    def versions(self, name: str, limit: int = 100, after: str = "") -> Versions:
        """The versions of a dataset, newest first; `after` is the last number of the page before.

        Raises:
            NotFound: there is no such dataset.
        """
        if after and not after.isdecimal():
            raise Invalid(f"after={after!r} is not a version number")
        return self._catalogue.history(parse_ref(name, "dataset").name, limit, after)

    @operation("datasets.preview", permission="datasets:read")
    def preview(self, ref: str, limit: int = 20) -> Preview:
        """The first rows of a table.

        Raises:
            NotFound: there is no such dataset or version.
            Conflict: it is a tree of files.
        """
        version = self._table(ref)
        with readable(version.ref):
            rows = self.scan(version.ref).head(min(limit, _PREVIEW_ROWS)).collect().to_dicts()
        return Preview(version.ref, msgspec.to_builtins(rows))

    def scan(self, ref: str) -> pl.LazyFrame:
        """A table at a version, lazily.

        Raises:
            NotFound: there is no such dataset or version.
            Conflict: it is a tree of files.
        """
        version = self._table(ref)
        return self.stores.tables.scan(self._key(version.name), version.table_version)

    def read(self, ref: str) -> pl.DataFrame:
        """A table at a version, in memory.

        Raises:
            NotFound, Conflict: as `scan` does.
            Corrupt: its files are damaged or gone.
        """
        with readable(ref):
            return self.scan(ref).collect(engine="streaming")

    def added(self, ref: str, since: int) -> pl.LazyFrame | None:
        """The rows that appends added after version `since`, up to the version of `ref`; costs nothing for older rows.

        None where they cannot be told apart: rows were replaced in between, or their files were cleaned away. Raises as
        `scan` does.
        """
        version = self._table(ref)
        if since > version.version or self._catalogue.first_of_chain(version) > since:
            return None
        before = self._catalogue.version(f"{version.name}@{since}")
        if before.table_version is None or version.table_version is None:
            return None
        return self.stores.tables.added(self._key(version.name), before.table_version, version.table_version)

    def checkout(self, ref: str, target: str | Path) -> Path:
        """Write a version to a new folder: the files of a tree, or `data.parquet`. Gives the folder.

        Raises:
            NotFound: there is no such dataset or version.
            Conflict: the folder holds something already.
        """
        from loopwright.store import checkout

        version, folder = self._catalogue.version(ref), Path(target)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict(f"{str(folder)!r} is not empty", next_step="name a new folder")
        if version.kind is Kind.TREE:
            checkout(self.stores.objects, version.digest, folder)
            return folder
        with spoken(f"{version.ref} cannot be written to {str(folder)!r}"):
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / ".data.parquet.partial"
            self.scan(version.ref).sink_parquet(partial)
            partial.replace(folder / "data.parquet")
        return folder

    @operation("datasets.profile", permission="datasets:read")
    def profile(self, ref: str) -> Profile:
        """What the columns of a table hold: counts, nulls, distinct values, quantiles, histogram, frequent values.

        Computed once per version; an appended version costs only its new rows.

        Raises:
            NotFound: there is no such dataset or version.
            Conflict: it is a tree of files.
        """
        with readable(ref):
            return self._profiling.profile(self._table(ref))

    def sketch(self, ref: str) -> TableSketch:
        """The sketch behind the profile of a version. Raises as `profile` does."""
        with readable(ref):
            return self._profiling.sketch(self._table(ref))

    @operation("datasets.compare", permission="datasets:read")
    def compare(self, before: str, after: str) -> Comparison:
        """Two versions compared by their profiles: columns, types, nulls, and how far each distribution moved.

        Raises:
            NotFound: there is no such dataset or version.
            Conflict: one is a tree of files.
        """
        with readable(f"{before} or {after}"):
            return self._profiling.compare(self._table(before), self._table(after))

    @overload
    def check(self, ref: str, suite: str) -> CheckReport: ...

    @overload
    def check(self, ref: str, suite: Suite) -> CheckReport: ...

    @operation("datasets.check", permission="datasets:write", effect="write")
    def check(self, ref: str, suite: Any) -> CheckReport:
        """Run a suite over a version; raises the event `dataset.checked`. Over HTTP a saved suite is given by its name.

        Raises:
            NotFound: there is no such version or suite.
            Invalid: a check does not fit its column.
        """
        # A suite itself is taken from Python only: Polars reads its expressions back, and trusts them.
        if not isinstance(suite, str | Suite):
            raise Invalid("a suite is given by its name", next_step="save it first, with save_suite in Python")
        with readable(ref):
            return self._checking.check(self._table(ref), suite)

    def quarantine(self, ref: str, suite: str | Suite, *, into: str = "") -> Quarantine:
        """Split a version: rows that pass every `error` check of rows become the next version of the dataset, the
        others go to the dataset `into` (default: NAME.quarantine), with the names of the checks that they fail.

        Raises:
            NotFound: there is no such version or suite.
            Conflict: the version is not the newest of its dataset.
            Invalid: the suite has no check of rows.
        """
        return self._checking.quarantine(self._table(ref), suite, into)

    def save_suite(self, suite: Suite) -> None:
        """Keep a suite under its name, instead of the one that had it."""
        self._checking.save(suite)

    @operation("datasets.suite", permission="datasets:read")
    def suite(self, name: str) -> Suite:
        """A saved suite.

        Raises:
            NotFound: there is none of that name.
        """
        return self._checking.suite(name)

    @operation("datasets.suites", permission="datasets:read")
    def suites(self) -> Sequence[str]:
        """The names of the saved suites."""
        return self._checking.suites()

    @operation("datasets.checks", permission="datasets:read")
    def checks(self, name: str, limit: int = 20, after: str = "") -> Sequence[CheckReport]:
        """The reports of a dataset's checks, newest first; `after` is the id of the last one of the page before."""
        return self._checking.reports(parse_ref(name, "dataset").name, limit, after)

    @property
    def _profiling(self) -> Profiling:
        return Profiling(self.stores, self.scope, self.scan, self.added)

    @property
    def _checking(self) -> Checking:
        return Checking(self.stores, self.scope, self.scan)

    @property
    def _scratch(self) -> Path:
        return self.stores.data / "tmp"

    def _key(self, name: str) -> str:
        return VersionWriter(self.stores, self.scope).table_key(name)

    def _made_before(self, name: str, once: str) -> DatasetVersion | None:
        return self._catalogue.once(name, once) if once else None

    def _wanted(self, name: str) -> Mapping[str, pl.DataType]:
        head = self._catalogue.head(name)
        return self._catalogue.columns(head) if head is not None and head.kind is Kind.TABLE else {}

    def _table(self, ref: str) -> DatasetVersion:
        version = self._catalogue.version(ref)
        if version.kind is not Kind.TABLE:
            raise Conflict(f"{version.ref} is a tree of files, not a table", next_step="use checkout")
        return version
