"""From parts to the output: a folder of Parquet files, one Parquet, CSV or JSON-lines file, or a Delta table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Conflict, Invalid, Unavailable
from loopwright.serve.batch.parts import Parts
from loopwright.store import TableStore

if TYPE_CHECKING:
    import polars as pl

DELTA = "delta"
_WHOLE = "whole"
_SINKS: dict[str, Callable[[pl.LazyFrame, Path], object]] = {
    ".parquet": lambda frame, path: frame.sink_parquet(path),
    ".pq": lambda frame, path: frame.sink_parquet(path),
    ".csv": lambda frame, path: frame.sink_csv(path),
    ".jsonl": lambda frame, path: frame.sink_ndjson(path),
}


def check_output(path: Path, format: str) -> None:
    """Refuse an output that could not be written in the end, before any work is done.

    Raises:
        Invalid: its form is unknown.
        Conflict: it is there already.
    """
    if format not in ("", DELTA):
        raise Invalid(f"there is no output format {format!r}", next_step="leave it out, or say delta")
    if not format and path.suffix and path.suffix.lower() not in _SINKS:
        raise Invalid(
            f"{path.suffix!r} is no form that answers are written in",
            next_step=f"use {', '.join(_SINKS)}, a folder's name without a suffix, or --format delta",
        )
    _check_writable(path)
    if path.exists() and format != DELTA:
        raise Conflict(f"{path} is there already", next_step="name another output, or remove that one")
    if format == DELTA and path.exists() and not (path / "_delta_log").is_dir():
        raise Conflict(f"{path} is there already, and is no Delta table", next_step="name another output")


def _check_writable(path: Path) -> None:
    """Raises Unavailable where the nearest folder that is there takes no new files."""
    near = path.parent
    while not near.exists() and near != near.parent:
        near = near.parent
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise Unavailable(
            f"{near} is {'not writable' if near.is_dir() else 'no folder'}",
            where=str(path),
            next_step="check the permissions, or name another output",
        )


def publish(parts: Parts, path: Path, format: str, job: str) -> None:
    """Turn whole parts into the output, which appears at once.

    Args:
        job: what is scored, by a digest; a Delta table takes the rows of one job once, however often they are brought.

    Raises:
        Unavailable: the disk is full or read-only.
        Invalid: the answers do not fit the Delta table that is there.
    """
    import polars as pl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == DELTA:
            _append(parts, path, job)
        elif path.suffix:
            _write_one(parts, path)
        else:
            _rename(parts, path)
    except (OSError, pl.exceptions.PolarsError) as error:
        said = getattr(error, "strerror", "") or str(error).strip().splitlines()[0]
        raise Unavailable(
            f"the answers cannot be written: {said}",
            where=str(path),
            next_step="free some space and say the same again: the parts are kept",
        ) from error
    parts.discard()


def _write_one(parts: Parts, path: Path) -> None:
    import polars as pl

    fresh = parts.folder / f"{_WHOLE}{path.suffix}"  # one that a killed process left is written over
    try:
        _SINKS[path.suffix.lower()](pl.scan_parquet(parts.files), fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _rename(parts: Parts, path: Path) -> None:
    files = parts.files
    for extra in set(parts.folder.iterdir()) - set(files):
        if extra.is_dir():
            shutil.rmtree(extra)
        else:
            extra.unlink()
    parts.folder.rename(path)


def _append(parts: Parts, path: Path, job: str) -> None:
    """One commit for all parts, named after the job, so that a restart does not bring them twice."""
    import polars as pl

    TableStore(path.absolute().parent).append(path.name, pl.scan_parquet(parts.files), app_transaction=(job, 1))
