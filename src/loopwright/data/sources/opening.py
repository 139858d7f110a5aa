"""Find out what a source is, and open it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from loopwright.core import Invalid, NotFound, Registry, check_path
from loopwright.data.sources.archives import unpack_gzip, unpack_zip
from loopwright.data.sources.csv_files import CsvSource
from loopwright.data.sources.frames import frame_source, is_frame, parquet_source
from loopwright.data.sources.json_lines import JsonLinesSource
from loopwright.data.sources.source import FileSource, ReadOptions, RowSource

Reader = Callable[[Sequence[tuple[Path, str]], ReadOptions, str], RowSource]
READERS: Registry[Reader] = Registry("formats", "format")
READERS.register("csv")(CsvSource)
READERS.register("jsonl")(JsonLinesSource)
READERS.register("parquet")(lambda files, options, described: parquet_source(files, described))

FILES = "files"
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_LITTER = {"Thumbs.db", "_SUCCESS"}


@contextmanager
def open_source(source: Any, format: str | None, options: ReadOptions) -> Iterator[RowSource | FileSource]:
    """Open what an ingest was given: a path, or a data frame.

    Args:
        format: `csv`, `jsonl`, `parquet` or a plug-in's, `files` to keep files as they are, or None to go by the names.

    Raises:
        NotFound: there is no such file.
        Invalid: the format is unknown, or the source is malformed.
        OSError: the file cannot be read, or not be unpacked.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise NotFound(f"there is no file or folder {str(path)!r}", next_step="check the path")
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder(options.scratch))
            scratch = ReadOptions(folder, options.null_values, options.wanted)
            yield _open_folder(path, format, scratch) if path.is_dir() else _open_file(path, format, scratch)
        return
    if format is not None or not is_frame(source):
        raise Invalid(
            f"a {type(source).__name__} cannot be ingested" + (f" as {format}" if format else ""),
            next_step="give a path, a Polars or pandas DataFrame, or an Arrow table",
        )
    yield frame_source(source)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder of one's own below `parent`, gone afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="ingest-") as folder:
        yield Path(folder)


def format_of(name: str) -> str | None:
    """The format that a file's name tells, with or without `.gz`; None if it tells none."""
    plain = name[:-3] if name.lower().endswith(".gz") else name
    return _SUFFIXES.get(Path(plain).suffix.lower())


def _open_file(path: Path, format: str | None, options: ReadOptions) -> RowSource | FileSource:
    if format == FILES:
        return FileSource({check_path(path.name): path}, path.name)
    if path.suffix.lower() == ".zip":
        members = [(file, name) for file, name in unpack_zip(path, path.name, options.scratch)]
        return _open_members(members, format, options, path.name)
    chosen = format or format_of(path.name)
    if chosen is None:
        raise Invalid(
            f"the name {path.name!r} does not tell its format",
            next_step=f"give format= one of {', '.join([*READERS.names(), FILES])}",
        )
    return READERS.get(chosen)([_plain(path, path.name, options, 0)], options, path.name)


def _open_folder(path: Path, format: str | None, options: ReadOptions) -> RowSource | FileSource:
    """The files of a folder and of those in it; hidden ones (`.git`, `.DS_Store`) are left out."""
    members = []
    for found in sorted(path.rglob("*")):
        inner = found.relative_to(path)
        if any(part.startswith(".") for part in inner.parts) or found.name in _LITTER:
            continue
        if found.is_symlink():
            raise Invalid("the folder holds a link", where=str(found), next_step="put the file itself there")
        if found.is_file():
            members.append((found, inner.as_posix()))
    return _open_members(members, format, options, f"{path.name}/")


def _open_members(
    members: Sequence[tuple[Path, str]], format: str | None, options: ReadOptions, described: str
) -> RowSource | FileSource:
    """Files that share one table format are one table; any others are a tree."""
    if not members:
        raise Invalid("there is no file in it", where=described)
    formats = {format_of(name) for _, name in members}
    if format == FILES or (format is None and (len(formats) > 1 or None in formats)):
        return FileSource({check_path(name): file for file, name in members}, described)
    chosen = format or next(iter(formats))
    if chosen is None:
        raise Invalid("its format is not known", where=described)
    prefix = described if described.endswith("/") else f"{described}:"
    files = [_plain(file, f"{prefix}{name}", options, number) for number, (file, name) in enumerate(members)]
    return READERS.get(chosen)(files, options, described)


def _plain(path: Path, shown: str, options: ReadOptions, number: int) -> tuple[Path, str]:
    if not shown.lower().endswith(".gz"):
        return path, shown
    target = options.scratch / f"plain-{number}"
    unpack_gzip(path, shown, target)
    return target, shown
