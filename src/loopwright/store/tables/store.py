"""Tables by key, in a folder or on S3. Every write is one Delta version: all of it is seen, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from loopwright.core import Conflict, Corrupt, Invalid, NotFound, check_path
from loopwright.store.objects import is_url, open_filesystem
from loopwright.store.tables.changes import added_files
from loopwright.store.tables.durability import sync_version
from loopwright.store.tables.faults import no_table, spoken
from loopwright.store.tables.folders import remove, table_folders, tidy_up, turn_to_create
from loopwright.store.tables.frames import Batches, Data, NewColumns, fitting
from loopwright.store.tables.handles import Handles
from loopwright.store.tables.options import (
    commit_properties,
    delta_options,
    polars_options,
    table_properties,
    writer_properties,
)

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable

_FILE_BYTES = 64 << 20
_ATTEMPTS = 5
_RETENTION_HOURS = 168
_READ_ROWS = 65_536


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
        self._handles = Handles()

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
        matches = " AND ".join(f't."{name}" = s."{name}"' for name in on)
        with Batches(data) as batches, batches.errors(), spoken(key):
            batches.reorder(fitting(key, batches.schema, self._schema(table), "refuse"))
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

    def location(self, key: str) -> str:
        """Where any reader of Delta finds a table: a folder or a URL.

        Raises:
            NotFound: no such table.
        """
        return str(self._open(key, None).table_uri).removeprefix("file://").rstrip("/")

    def added(self, key: str, since: int, version: int) -> pl.LazyFrame | None:
        """The rows that appends added after version `since`, up to `version`, lazily; older rows cost nothing.

        None where they cannot be told from the log: rows were removed or changed in between, the columns changed, the
        table is partitioned, or the log or the files were cleaned away.

        Raises:
            Corrupt: a commit in between cannot be understood.
        """
        import polars as pl

        files = added_files(key, lambda number: self._log_entry(key, number), since, version)
        if files is None:
            return None
        paths = [f"{self._root}/{key}/{file}" for file in files]
        if self._folder is not None and not all(Path(path).exists() for path in paths):
            return None
        if not paths:
            return self.scan(key, version).head(0)
        return pl.scan_parquet(paths, glob=False, storage_options=polars_options(self._options))

    def read(self, key: str, version: int | None = None) -> pl.DataFrame:
        """The table at a version, in memory. Raises as `scan` does."""
        return self.scan(key, version).collect(engine="streaming")

    def batches(self, key: str, version: int | None = None, *, rows: int = _READ_ROWS) -> Iterator[pl.DataFrame]:
        """The table at a version, as frames of at most about `rows` rows, in constant memory. Raises as `scan` does."""
        wanted, seen = self.rows(key, version), 0
        for frame in self.scan(key, version).collect_batches(chunk_size=rows, lazy=True, engine="streaming"):
            seen += frame.height
            yield frame
        if version is not None and seen != wanted:  # where a file is cut short, Polars' stream just ends
            raise Corrupt(
                f"the table {key!r} gave {seen} rows; its log tells of {wanted}", next_step="run loopwright fsck"
            )

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
        filesystem, root = self._files()
        return sorted(folder[len(root) + 1 :] for folder in table_folders(filesystem, root))

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
            remove(self._folder / check_path(key))
            return
        filesystem, root = self._files()
        for part in (f"{root}/{check_path(key)}/_delta_log", f"{root}/{key}"):
            if filesystem.exists(part):
                filesystem.rm(part, recursive=True)

    def _write(self, key: str, data: Data, how: _How) -> int:
        again = hasattr(data, "lazy")  # a frame can be written twice; an iterator is used up by the first attempt
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._attempt(key, data, how)
            except Conflict:
                if not again or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _attempt(self, key: str, data: Data, how: _How) -> int:
        table = (self._handles.take(self._folder / check_path(key)) if self._folder else None) or self._find(key)
        if table is None:
            with turn_to_create(self._folder, key):
                table = self._find(key)
                if table is None:
                    return self._create(key, data, how)
        if _done(table, how.transaction):
            return int(table.version())
        return self._commit(key, table, data, how)

    def _create(self, key: str, data: Data, how: _How) -> int:
        from deltalake import write_deltalake

        try:
            with Batches(data) as batches, batches.errors(), spoken(key):
                settings = {**self._settings(how), "configuration": table_properties()}
                write_deltalake(self._uri(key), batches.arrow(), mode="error", **settings)
        except BaseException:
            tidy_up(self._folder, key)
            raise
        return self._settled(key, self._open(key, 0))

    def _commit(self, key: str, table: DeltaTable, data: Data, how: _How) -> int:
        from deltalake import write_deltalake

        settings = self._settings(how)
        with Batches(data) as batches, batches.errors(), spoken(key):
            if how.mode == "overwrite":
                write_deltalake(table, batches.arrow(), mode="overwrite", schema_mode="overwrite", **settings)
            else:
                batches.reorder(fitting(key, batches.schema, self._schema(table), how.new_columns))
                evolve: Literal["merge"] | None = "merge" if how.new_columns == "add" else None
                write_deltalake(table, batches.arrow(), mode="append", schema_mode=evolve, **settings)
        version = self._settled(key, table)
        if self._folder is not None:
            self._handles.give(self._folder / key, table)
        return version

    def _settings(self, how: _How) -> dict[str, Any]:
        return {
            "partition_by": list(how.partition_by) or None,
            "storage_options": self._options,
            "target_file_size": _FILE_BYTES,
            "writer_properties": writer_properties(),
            "commit_properties": commit_properties(how.info, how.transaction),
        }

    def _settled(self, key: str, table: DeltaTable) -> int:
        version = int(table.version())
        if self._folder is not None:
            sync_version(self._folder / key, version)
        return version

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
        if version is not None and self._folder is not None:
            kept = self._handles.get(self._folder / key, version)
            if kept is not None:
                return kept
        with spoken(key):
            table = DeltaTable(f"{self._root}/{key}", storage_options=self._options)
            if version is not None and table.version() != version:
                if not 0 <= version < table.version():
                    raise NotFound(f"the table {key!r} has no version {version}; the newest is {table.version()}")
                table.load_as_version(version)
        if version is not None and self._folder is not None:
            self._handles.put(self._folder / key, version, table)
        return table

    def _log_entry(self, key: str, version: int) -> bytes | None:
        check_path(key)
        name = f"{key}/_delta_log/{version:020}.json"
        try:
            if self._folder is not None:
                return (self._folder / name).read_bytes()
            filesystem, root = self._files()
            return bytes(filesystem.cat_file(f"{root}/{name}"))
        except FileNotFoundError:
            return None

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
