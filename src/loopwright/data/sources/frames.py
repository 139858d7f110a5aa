"""Data frames as rows: Polars, pandas, and anything that speaks Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, LoopwrightError, missing_extra
from loopwright.data.sources.csv_files import different_columns
from loopwright.data.sources.source import RowSource, polars_batches

if TYPE_CHECKING:
    import polars as pl


def is_frame(source: Any) -> bool:
    """Whether `source` is a data frame of a library that is known here."""
    library = type(source).__module__.partition(".")[0]
    return library in {"polars", "pandas", "pyarrow"} or hasattr(source, "__arrow_c_stream__")


def frame_source(source: Any, described: str = "") -> RowSource:
    """Rows of a data frame.

    Raises:
        Invalid: pandas without pyarrow; columns that no table can hold.
    """
    import polars as pl

    library = type(source).__module__.partition(".")[0]
    shown = described or f"a {library} {type(source).__name__}"
    if isinstance(source, pl.LazyFrame):
        return RowSource(dict(_schema_of(source, shown)), lambda: _batches(source, shown), shown)
    frame = _as_polars(source, library)
    return RowSource(dict(frame.schema), lambda: _slices(frame), shown)


def _schema_of(frame: pl.LazyFrame, shown: str) -> pl.Schema:
    import polars as pl

    try:
        return frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(shown, error) from None


def _batches(frame: pl.LazyFrame, shown: str) -> Iterator[pl.DataFrame]:
    import polars as pl

    try:
        yield from polars_batches(frame)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(shown, error) from None


def _unreadable(shown: str, error: Exception) -> LoopwrightError:
    return Invalid(f"it cannot be read: {str(error).strip().splitlines()[0]}", where=shown)


def _slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if frame.height <= 1 << 20:
        yield frame
        return
    yield from frame.iter_slices(1 << 20)


def _as_polars(source: Any, library: str) -> pl.DataFrame:
    import polars as pl

    if isinstance(source, pl.DataFrame):
        return source
    if library == "pandas":
        return _from_pandas(source)
    try:
        found = pl.from_arrow(source) if library == "pyarrow" else pl.DataFrame(source)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise Invalid(
            f"a {type(source).__name__} is no table: {error}", next_step="give a table with columns"
        ) from None
    if isinstance(found, pl.Series):
        raise Invalid(f"a {type(source).__name__} is one column, not a table", next_step="give a table with columns")
    return found


def _from_pandas(source: Any) -> pl.DataFrame:
    import polars as pl

    if type(source).__name__ != "DataFrame":
        raise Invalid(f"a pandas {type(source).__name__} is no table", next_step="give a pandas DataFrame")
    names = [str(name) for name in source.columns]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"the DataFrame has two columns called {twice!r}", next_step="rename one of them")
    try:
        # A named index is data; the plain row number is not.
        frame = pl.from_pandas(source, include_index=any(name is not None for name in source.index.names))
    except ImportError:
        raise missing_extra("pyarrow", "pandas", "reading a pandas DataFrame") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(
            f"a column holds values of several types: {error}", next_step="give each column one type, as with astype"
        ) from None
    return frame


def parquet_source(files: Sequence[tuple[Path, str]], described: str) -> RowSource:
    """Rows of Parquet files with the same columns.

    Raises:
        Invalid: a file is damaged or no Parquet file, or the files' columns differ.
    """
    import polars as pl

    first: pl.Schema | None = None
    for path, shown in files:
        try:
            schema = pl.scan_parquet(path, glob=False).collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise Invalid(f"damaged, or no Parquet file: {reason}", where=shown, next_step="write it again") from None
        first = first or schema
        missing, surplus = [n for n in first if n not in schema], [n for n in schema if n not in first]
        if missing or surplus:
            raise different_columns(files[0][1], shown, missing, surplus)
        for name in first:
            if schema[name] != first[name]:
                raise Invalid(
                    f"the column is {schema[name]} here and {first[name]} in {files[0][1]}",
                    where=f"{shown}, column {name!r}",
                    next_step="write both files with one type",
                )
    names = list(first or {})
    scans = [pl.scan_parquet(path, glob=False).select(names) for path, _ in files]
    return frame_source(pl.concat(scans), described)
