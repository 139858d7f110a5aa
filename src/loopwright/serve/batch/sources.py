"""Rows to score: a file, a folder of files or a Delta table, always in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Conflict, DType, Invalid, NotFound, digest_value, missing_extra
from loopwright.models import Signature
from loopwright.serve.batch.faults import Place, header_of

if TYPE_CHECKING:
    import polars as pl

_KINDS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Rows(msgspec.Struct, frozen=True):
    """Rows that can be read from any place on.

    Attributes:
        frame: reads them.
        columns: their names.
        count: how many there are, where that is known without reading them.
        mark: changes when the rows do, as far as names, sizes and times of files tell.
        place: where they are, for errors.
        sentinel: a column that is empty wherever a line of a text file has too few fields; empty where there is none.
    """

    frame: pl.LazyFrame
    columns: tuple[str, ...]
    count: int | None
    mark: str
    place: Place
    sentinel: str = ""

    def check_unchanged(self) -> None:
        """Make sure that the files are those that were opened.

        Raises:
            Conflict: one was written, or is gone.
        """
        if self.place.files:
            try:
                now = _mark(self.place.kind, self.place.files)
            except OSError:
                now = ""
            if now != self.mark:
                raise Conflict(
                    "the files were changed while they were read",
                    where=self.place.name,
                    next_step="say the same again once nobody writes them",
                )


def open_rows(path: Path, signature: Signature) -> Rows:
    """The rows behind a path; a column of a text file gets the type that the model takes.

    Raises:
        NotFound: there is nothing.
        Invalid: it is of no form that is known, or cannot be read.
    """
    import polars as pl

    if not path.exists():
        raise NotFound(f"there is no file or folder {str(path)!r}", next_step="check the path")
    if (path / "_delta_log").is_dir():
        return delta_rows(path)
    kind, files = _files(path)
    separator = "\t" if ".tsv" in files[0].suffixes else ","
    place = Place(str(path), kind, tuple(files), separator)
    try:
        if kind == "csv":
            place.check_headers()
        frame = _scan(place, signature)
        schema = frame.collect_schema()
        place = msgspec.structs.replace(place, types=dict(schema))
        count = None if kind != "parquet" else int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError) as error:
        raise place.fault(error) from error
    sentinel = schema.names()[-1] if kind == "csv" and len(schema) > 1 else ""
    return Rows(frame, tuple(schema.names()), count, _mark(kind, files), place, sentinel)


def rows_of(frame: pl.LazyFrame, mark: str, place: Place) -> Rows:
    """The rows of a lazy frame that always gives the same ones in the same order, as those of a dataset version.

    Raises:
        Corrupt, Conflict: they cannot be read.
    """
    import polars as pl

    try:
        columns = tuple(frame.collect_schema().names())
        return Rows(frame, columns, int(frame.select(pl.len()).collect().item()), mark, place)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise place.fault(error) from error


def delta_rows(path: Path) -> Rows:
    """The rows of a Delta table as it is now: later commits do not show.

    Raises:
        Invalid: its log cannot be read.
        Conflict: its files are not there.
    """
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ModuleNotFoundError:  # pragma: no cover - a base dependency; a stripped container may lack it
        raise missing_extra("deltalake", "delta", "a Delta table") from None
    import polars as pl

    try:
        version = DeltaTable(str(path)).version()
    except (DeltaError, OSError) as error:
        said = str(error).strip().splitlines()[0][:300]
        raise Invalid(
            f"the Delta table cannot be read: {said}", where=str(path), next_step="restore its log"
        ) from error
    place = Place(f"{path}@{version}", "delta")
    return rows_of(pl.scan_delta(str(path), version=version), f"delta:{path.resolve()}@{version}", place)


def check_types(rows: Rows, signature: Signature) -> None:
    """Make sure that the columns can be what the model takes.

    Raises:
        Invalid: one cannot; it is named.
    """
    import polars as pl

    schema = rows.frame.collect_schema()
    for item in signature.inputs:
        found = schema[item.name]
        nested = isinstance(found, pl.List | pl.Array)
        number = found.is_numeric() or found in (pl.Boolean, pl.Null)
        if nested != bool(item.shape) or not (nested or number or item.dtype is DType.STRING):
            takes = f"lists of {item.dtype}" if item.shape else str(item.dtype)
            raise Invalid(
                f"the column holds {found}, and the model takes {takes}",
                where=f"{rows.place.name}, column {item.name!r}",
                next_step="cast the column, or name the right file",
            )


def _mark(kind: str, files: Sequence[Path]) -> str:
    found = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    return digest_value([kind, found])


def _files(path: Path) -> tuple[str, list[Path]]:
    if path.is_file():
        return _kind(path), [path]
    files = sorted(item for item in path.rglob("*") if item.is_file() and not item.name.startswith((".", "_")))
    kinds = {_kind(item) for item in files}
    if len(kinds) != 1:
        held = f"files of {len(kinds)} kinds ({', '.join(sorted(kinds))})" if kinds else "no files"
        raise Invalid(f"the folder holds {held}", where=str(path), next_step="give a folder of files of one kind")
    return kinds.pop(), files


def _kind(path: Path) -> str:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    found = _KINDS.get(plain.suffix.lower())
    if found is None:
        raise Invalid(
            f"{path.name!r} is of no form that can be scored",
            next_step=f"give a Delta table, or files with {', '.join(_KINDS)} (CSV also with .gz)",
        )
    return found


def _scan(place: Place, signature: Signature) -> pl.LazyFrame:
    import polars as pl

    files = list(place.files)
    if place.kind == "parquet":
        return pl.scan_parquet(files, glob=False)
    types = {
        DType.BOOL: pl.Boolean(),
        DType.INT64: pl.Int64(),
        DType.FLOAT32: pl.Float64(),
        DType.FLOAT64: pl.Float64(),
        DType.STRING: pl.String(),
    }
    wanted = {item.name: types[item.dtype] for item in signature.inputs if not item.shape}
    if place.kind == "jsonl":
        return pl.scan_ndjson(files, schema_overrides=wanted)
    named = set(header_of(files[0], place.separator))
    overrides = {name: dtype for name, dtype in wanted.items() if name in named}
    return pl.scan_csv(
        files, separator=place.separator, schema_overrides=overrides, infer_schema_length=10_000, glob=False
    )
