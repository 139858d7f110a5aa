"""What an ingest reads from: rows in batches, or files by path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS = 65_536
NULL_MARKERS = ("NA", "N/A", "n/a", "NULL", "null", "None", "nan", "NaN", "#N/A")


@dataclass(frozen=True)
class ReadOptions:
    """How to read.

    Attributes:
        null_values: texts that stand for "no value" in every column; None takes the usual ones, and only in columns
            whose other values are no text (so that the country code `NA` survives).
        wanted: the types of the table that the rows will be appended to, if any.
        scratch: a folder for what must be unpacked.
    """

    scratch: Path
    null_values: Sequence[str] | None = None
    wanted: Mapping[str, pl.DataType] = field(default_factory=dict)


@dataclass
class RowSource:
    """Rows of a table.

    Attributes:
        columns: the types of the batches' columns.
        batches: gives the rows anew each time it is called, in order, of which one batch is in memory at a time.
        described: where they come from, without secrets.
    """

    columns: Mapping[str, pl.DataType]
    batches: Callable[[], Iterator[pl.DataFrame]]
    described: str


@dataclass(frozen=True)
class FileSource:
    """Files of a tree, by their path in it."""

    entries: Mapping[str, Path]
    described: str


class TypesWidened(Exception):  # no error: it asks for another pass
    """A value further down needs a wider type than the first rows showed; read again with the source's new types."""


def polars_batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """A lazy frame as batches, run by the streaming engine."""
    yield from frame.collect_batches(chunk_size=BATCH_ROWS, lazy=True, engine="streaming")
