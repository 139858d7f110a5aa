"""Tables by key, in a folder or on S3. Every write is one Delta version: all of it is seen, or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from loopwright.core import Conflict, Invalid, NotFound, check_path, new_id
from loopwright.store.objects import is_url, open_filesystem
from loopwright.store.tables.durability import sync_version
from loopwright.store.tables.faults import no_table, spoken
from loopwright.store.tables.frames import Batches, Data
from loopwright.store.tables.options import commit_properties, delta_options, polars_options, writer_properties

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable

_FILE_BYTES = 64 << 20
_ATTEMPTS = 5
_RETENTION_HOURS = 168
_READ_ROWS = 65_536

NewColumns = Literal["refuse", "add"]


class _How(NamedTuple):
    mode: Literal["append", "overwrite"]
    info: Mapping[str, str] | None
    transaction: tuple[str, int] | None
    partition_by: Sequence[str]
    new_columns: NewColumns = "refuse"


class TableStore:
    """Delta tables by key (a relative path that a room derives), read and written with Polars.

    A write is atomic: readers see the version before or the version after. When it returns, the version survives the
    death of every process (in a folder: also the loss of power). Appends of several writers at once all succeed; two
    changes of the same rows do not (Conflict). Memory is bounded by the batch and the row group, not by the data. The
    order of rows is kept within a write, but a reader must sort to rely on it. Thread-safe.

    An application transaction `(name, number)` makes a write exactly-once: a write whose number is not above the last
    one recorded under that name changes nothing and returns the present version.
    """

    def __init__(self, place: str | Path, options: Mapping[str, str] | None = None) -> None:
        """Args:
        place: a folder, a `file://` URL, or `s3://bucket/prefix`.
        options: storage options for a URL, by the names of AWS's variables (`AWS_ENDPOINT_URL`, ...).
        """
        text = str(place)
        self._folder: Path | None = None
        if isinstance(place, Path) or not is_url(text):
            self._folder = Path(text).absolute()
        elif text.startswith("file://"):
            self._folder = Path(unquote(urlsplit(text).path))
        self._root = str(self._folder) if self._folder else text.rstrip("/")
        self._given = dict(options or {})
        self._options = None if self._folder else delta_options(self._given)

    def __repr__(self) -> str:
        return f"TableStore({self._root!r})"

    def append(
        self,
        key: str,
        data: Data,
        *,
        commit_info: Mapping[str, str] | None = None,
        app_transaction: tuple[str, int] | None = None,
        partition_by: Sequence[str] = (),
        new_columns: NewColumns = "refuse",
    ) -> int:
        """Add rows; the table is made if it is not there. Returns the Delta version.

        Args:
            data: a frame, a lazy frame (run by the streaming engine), or an iterator of frames.
            commit_info: recorded in the table's history.
            app_transaction: see the class.
            partition_by: columns to partition a new table by.
            new_columns: whether columns that the table lacks are added to it (null in older rows) or refused.

        Raises:
            Invalid: the rows do not fit the table. What the source itself raises passes unchanged.
            Conflict: another writer made the table at the same moment, and `data` cannot be read twice.
            Unavailable: the place is full, read-only, or does not answer.
        """
        return self._write(key, data, _How("append", commit_info, app_transaction, partition_by, new_columns))

    def overwrite(
        self,
        key: str,
        data: Data,
        *,
        commit_info: Mapping[str, str] | None = None,
        app_transaction: tuple[str, int] | None = None,
        partition_by: Sequence[str] = (),
    ) -> int:
        """Replace all rows, and the columns; older versions stay readable. Returns the Delta version.

        Arguments and errors are those of `append`.
        """
        return self._write(key, data, _How("overwrite", commit_info, app_transaction, partition_by))

    def merge(
        self,
        key: str,
        data: Data,
        on: Sequence[str],
        *,
        commit_info: Mapping[str, str] | None = None,
        app_transaction: tuple[str, int] | None = None,
    ) -> int:
        """Update the rows whose `on` columns match, insert the others. Returns the Delta version.

        Nulls match no row. A table that is not there is made.

        Raises:
            Invalid: no columns to match on, a key twice in `data`, or rows that do not fit the table.
            Conflict: another writer changed the same rows first.
        """
        if not on:
            raise Invalid("a merge needs columns to match rows on")
        table = self._find(key)
        if table is None:
            return self.append(key, data, commit_info=commit_info, app_transaction=app_transaction)
        if _done(table, app_transaction):
            return int(table.version())
        batches = Batches(data)
        batches.reorder(_fitting(key, batches.schema, self._schema(table), "refuse"))
        matches = " AND ".join(f't."{name}" = s."{name}"' for name in on)
        with _source_errors(batches), spoken(key):
            merger = table.merge(
                batches.arrow(),
                matches,
                source_alias="s",
                target_alias="t",
                commit_properties=commit_properties(commit_info, app_transaction),
                writer_properties=writer_properties(),
            )
            merger.when_matched_update_all().when_not_matched_insert_all().execute()
        return self._settled(key, table)

    def scan(self, key: str, version: int | None = None) -> pl.LazyFrame:
        """The table at a version (default: the newest), lazily.

        Raises:
            NotFound: no such table, or no such version of it.
            Corrupt: the table's log cannot be understood.
        """
        import polars as pl

        return pl.scan_delta(self._open(key, version), storage_options=polars_options(self._options))

    def read(self, key: str, version: int | None = None) -> pl.DataFrame:
        """The table at a version, in memory. Raises as `scan` does."""
        return self.scan(key, version).collect(engine="streaming")

    def batches(self, key: str, version: int | None = None, *, rows: int = _READ_ROWS) -> Iterator[pl.DataFrame]:
        """The table at a version, as frames of at most about `rows` rows, in constant memory. Raises as `scan` does."""
        yield from self.scan(key, version).collect_batches(chunk_size=rows, lazy=True, engine="streaming")

    def version(self, key: str) -> int:
        """The newest version's number.

        Raises:
            NotFound: no such table.
        """
        return int(self._open(key).version())

    def exists(self, key: str) -> bool:
        """Whether there is a table under that key."""
        return self._find(key) is not None

    def rows(self, key: str, version: int | None = None) -> int:
        """How many rows the table has, from its log alone. Raises as `scan` does."""
        return int(self._open(key, version).count())

    def history(self, key: str, limit: int = 100) -> list[dict[str, Any]]:
        """The newest commits first, each with its `version`, its operation and its commit info.

        Raises:
            NotFound: no such table.
        """
        return list(self._open(key).history(limit))

    def last_app_transaction(self, key: str, name: str) -> int | None:
        """The number of the last application transaction under that name; None if there is none, or no table."""
        table = self._find(key)
        return None if table is None else table.transaction_version(name)

    def files(self, key: str, version: int | None = None) -> list[str]:
        """Where the Parquet files of a version are, for other readers of Delta. Raises as `scan` does."""
        return [str(uri) for uri in self._open(key, version).file_uris()]

    def keys(self) -> list[str]:
        """The keys of all tables, sorted."""
        found: list[str] = []
        filesystem, root = self._files()
        for folder, folders, _ in filesystem.walk(root, topdown=True):
            if "_delta_log" in folders:
                found.append(folder[len(root) :].strip("/"))
                folders.clear()  # a table holds no tables
        return sorted(found)

    def compact(self, key: str) -> int:
        """Rewrite small files into larger ones; the rows stay the same. Returns the Delta version.

        Raises:
            NotFound: no such table.
            Conflict: another writer changed the same files first.
        """
        table = self._open(key)
        before = table.version()
        with spoken(key):
            table.optimize.compact(target_size=_FILE_BYTES, writer_properties=writer_properties())
        return self._settled(key, table) if table.version() != before else int(before)

    def vacuum(
        self, key: str, *, retention_hours: int = _RETENTION_HOURS, keep: Sequence[int] = (), dry_run: bool = False
    ) -> list[str]:
        """Remove files that no version needs any more; returns their paths.

        Args:
            retention_hours: files that younger versions or running writers may need stay.
            keep: versions that stay readable whatever their age.
            dry_run: only say which.

        Raises:
            NotFound: no such table.
        """
        with spoken(key):
            removed = self._open(key).vacuum(
                retention_hours=retention_hours,
                dry_run=dry_run,
                enforce_retention_duration=False,
                keep_versions=list(keep) or None,
            )
        return [str(path) for path in removed]

    def delete(self, key: str) -> None:
        """Remove the table with all its versions; nothing happens if it is not there."""
        if self._folder is not None:
            folder = self._folder / check_path(key)
            if folder.is_dir():
                doomed = folder.with_name(f".deleted-{new_id()}")
                folder.rename(doomed)
                shutil.rmtree(doomed)
            return
        filesystem, root = self._files()
        for part in (f"{root}/{check_path(key)}/_delta_log", f"{root}/{key}"):
            if filesystem.exists(part):
                filesystem.rm(part, recursive=True)

    def _write(self, key: str, data: Data, how: _How) -> int:
        again = hasattr(data, "lazy")  # a frame can be written twice; an iterator is used up by the first attempt
        for attempt in range(1, _ATTEMPTS + 1):
            table = self._find(key)
            if table is not None and _done(table, how.transaction):
                return int(table.version())
            try:
                return self._commit(key, table, Batches(data), how)
            except Conflict:
                if not again or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _commit(self, key: str, table: DeltaTable | None, batches: Batches, how: _How) -> int:
        from deltalake import write_deltalake

        if table is not None and how.mode == "append":
            batches.reorder(_fitting(key, batches.schema, self._schema(table), how.new_columns))
        shared: dict[str, Any] = {
            "partition_by": list(how.partition_by) or None,
            "storage_options": self._options,
            "target_file_size": _FILE_BYTES,
            "writer_properties": writer_properties(),
            "commit_properties": commit_properties(how.info, how.transaction),
        }
        try:
            with _source_errors(batches), spoken(key):
                if table is None:
                    write_deltalake(self._uri(key), batches.arrow(), mode="error", **shared)
                elif how.mode == "overwrite":
                    write_deltalake(table, batches.arrow(), mode="overwrite", schema_mode="overwrite", **shared)
                else:
                    evolve: Literal["merge"] | None = "merge" if how.new_columns == "add" else None
                    write_deltalake(table, batches.arrow(), mode="append", schema_mode=evolve, **shared)
        except BaseException:
            self._tidy(key)
            raise
        return self._settled(key, table or self._open(key, 0))

    def _settled(self, key: str, table: DeltaTable) -> int:
        version = int(table.version())
        if self._folder is not None:
            sync_version(self._folder / key, version)
        return version

    def _tidy(self, key: str) -> None:
        """Remove what a failed first write left: data files that no log entry names."""
        if self._folder is None:
            return
        folder = self._folder / key
        if folder.is_dir() and not (folder / "_delta_log").exists():
            shutil.rmtree(folder, ignore_errors=True)

    def _uri(self, key: str) -> str:
        check_path(key)
        if self._folder is None:
            return f"{self._root}/{key}"
        folder = self._folder / key
        with spoken(key):
            folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def _find(self, key: str) -> DeltaTable | None:
        try:
            return self._open(key)
        except NotFound:
            return None

    def _open(self, key: str, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable

        check_path(key)
        if self._folder is not None and not (self._folder / key / "_delta_log").is_dir():
            raise no_table(key)
        with spoken(key):
            table = DeltaTable(f"{self._root}/{key}", storage_options=self._options)
            if version is None or table.version() == version:
                return table
            if not 0 <= version < table.version():
                raise NotFound(f"the table {key!r} has no version {version}; the newest is {table.version()}")
            table.load_as_version(version)
        return table

    def _schema(self, table: DeltaTable) -> pl.Schema:
        import polars as pl

        return pl.scan_delta(table, storage_options=polars_options(self._options)).collect_schema()

    def _files(self) -> tuple[Any, str]:
        return open_filesystem(
            self._folder.as_uri() if self._folder else self._root, None if self._folder else self._given
        )


def _done(table: DeltaTable, transaction: tuple[str, int] | None) -> bool:
    if transaction is None:
        return False
    last = table.transaction_version(transaction[0])
    return last is not None and last >= transaction[1]


@contextmanager
def _source_errors(batches: Batches) -> Iterator[None]:
    """What the source raised, instead of the writer's text about it."""
    try:
        yield
    except Exception:
        if batches.error is not None:
            raise batches.error from None
        raise


def _fitting(key: str, given: pl.Schema, kept: pl.Schema, new_columns: NewColumns) -> pl.Schema:
    """The given columns in the table's order.

    Raises:
        Invalid: a column is missing, has another type, or is new and new ones are refused.
    """
    import polars as pl

    wrong = {name: (given[name], kept[name]) for name in given if name in kept and given[name] != kept[name]}
    if wrong:
        said = "; ".join(f"{name!r} is {found}, the table has {wanted}" for name, (found, wanted) in wrong.items())
        raise Invalid(f"the rows do not fit the table {key!r}: {said}", next_step="cast these columns first")
    surplus = [name for name in given if name not in kept]
    missing = [name for name in kept if name not in given]
    if new_columns == "refuse" and (surplus or missing):
        raise Invalid(
            f"the rows do not fit the table {key!r}: missing columns {missing}, new columns {surplus}",
            next_step="give the table's columns, or allow new ones",
        )
    return pl.Schema({name: given[name] for name in (*(n for n in kept if n in given), *surplus)})
