"""Rows to score: a file, a folder of files or a Delta table, always in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import DType, Invalid, NotFound, digest_value, missing_extra
from loopwright.models import Signature

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
    """

    frame: pl.LazyFrame
    columns: tuple[str, ...]
    count: int | None
    mark: str


def open_rows(path: Path, signature: Signature) -> Rows:
    """The rows behind a path; a column of a text file gets the type that the model takes.

    Raises:
        NotFound: there is nothing.
        Invalid: it is of no form that is known, or cannot be read.
    """
    import polars as pl

    if not path.exists():
        raise NotFound(f"there is no file or folder {str(path)!r}", next_step="check the path")
    try:
        if (path / "_delta_log").is_dir():
            return _delta(path)
        kind, files = _files(path)
        frame = _scan(kind, files, signature)
        columns = tuple(frame.collect_schema().names())
        count = None if kind != "parquet" else int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Invalid(f"the rows cannot be read: {str(error).splitlines()[0][:300]}", where=str(path)) from error
    found = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    return Rows(frame, columns, count, digest_value([kind, found]))


def rows_of(frame: pl.LazyFrame, mark: str) -> Rows:
    """The rows of a lazy frame that always gives the same ones in the same order, as those of a dataset version."""
    import polars as pl

    columns = tuple(frame.collect_schema().names())
    return Rows(frame, columns, int(frame.select(pl.len()).collect().item()), mark)


def _delta(path: Path) -> Rows:
    """The rows of a Delta table as it is now: later commits do not show."""
    try:
        from deltalake import DeltaTable
    except ModuleNotFoundError:  # pragma: no cover - a base dependency; a stripped container may lack it
        raise missing_extra("deltalake", "delta", "a Delta table") from None
    import polars as pl

    version = DeltaTable(str(path)).version()
    return rows_of(pl.scan_delta(str(path), version=version), f"delta:{path.resolve()}@{version}")


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


def _scan(kind: str, files: Sequence[Path], signature: Signature) -> pl.LazyFrame:
    import polars as pl

    if kind == "parquet":
        return pl.scan_parquet(list(files))
    types = {
        DType.BOOL: pl.Boolean(),
        DType.INT64: pl.Int64(),
        DType.FLOAT32: pl.Float64(),
        DType.FLOAT64: pl.Float64(),
        DType.STRING: pl.String(),
    }
    wanted = {item.name: types[item.dtype] for item in signature.inputs if not item.shape}
    if kind == "jsonl":
        return pl.scan_ndjson(list(files), schema_overrides=wanted)
    separator = "\t" if ".tsv" in files[0].suffixes else ","
    named = set(pl.scan_csv(files[0], separator=separator).collect_schema().names())
    overrides = {name: dtype for name, dtype in wanted.items() if name in named}
    return pl.scan_csv(list(files), separator=separator, schema_overrides=overrides, infer_schema_length=10_000)
