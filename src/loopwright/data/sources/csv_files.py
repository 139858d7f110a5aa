"""CSV files as rows: exact types, every value accounted for, errors with file, line and column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Invalid, LoopwrightError
from loopwright.data.sources.csv_faults import check_shape, csv_fault, line_of_row, where
from loopwright.data.sources.csv_types import Parser, as_text, infer, joined, wanted, wider
from loopwright.data.sources.source import BATCH_ROWS, NULL_MARKERS, ReadOptions, RowSource, TypesWidened

if TYPE_CHECKING:
    import polars as pl

SAMPLE_ROWS = 10_000
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class _File:
    path: Path
    shown: str
    separator: str
    columns: list[str]


class CsvSource(RowSource):
    """Rows of one or more CSV files with the same columns, in order of the files.

    The types are those of the first 10,000 rows, or of the table that is appended to. Each text is parsed exactly: one
    that does not fit is an error, never a null. A line without any value is left out.
    """

    def __init__(self, files: Sequence[tuple[Path, str]], options: ReadOptions, described: str) -> None:
        """Args:
        files: path and name to show of each.

        Raises:
            Invalid: a file is empty or its header is malformed, or the files' columns differ.
        """
        self._options = options
        self._files = [_open(path, shown) for path, shown in files]
        first = self._files[0]
        for file in self._files[1:]:
            _same_columns(first, file)
        self._names = list(first.columns)
        self._parsers = self._infer()
        super().__init__(self._types(), self._read, described)

    def _types(self) -> dict[str, pl.DataType]:
        return {name: self._parsers[name].dtype for name in self._names}

    def _infer(self) -> dict[str, Parser]:
        parsers: dict[str, Parser] = {}
        nulls = self._options.null_values
        for file in self._files:
            sample = _sample(file)
            for name in self._names:
                found = infer(sample[name], nulls, NULL_MARKERS)
                parsers[name] = joined(parsers[name], found, nulls) if name in parsers else found
        for name in [name for name in self._names if parsers[name].kind == "empty"]:
            parsers[name] = self._look_further(name)
        for name, dtype in self._options.wanted.items():
            if name in parsers:
                parsers[name] = wanted(dtype, parsers[name], name, nulls)
        return parsers

    def _look_further(self, name: str) -> Parser:
        """The parser of a column whose first rows hold no value."""
        import polars as pl

        nulls = self._options.null_values
        markers = list(NULL_MARKERS if nulls is None else nulls)
        for file in self._files:
            column = pl.col(name)
            query = _scan(file).select(column).filter(column.is_not_null() & ~column.is_in(markers)).head(SAMPLE_ROWS)
            found = infer(_collected(file, query)[name], nulls, NULL_MARKERS)
            if found.kind != "empty":
                return found
        return as_text(nulls)

    def _read(self) -> Iterator[pl.DataFrame]:
        for file in self._files:
            yield from self._read_file(file)

    def _read_file(self, file: _File) -> Iterator[pl.DataFrame]:
        import polars as pl

        row, suspect = 0, False
        batches = _scan(file).collect_batches(chunk_size=BATCH_ROWS, lazy=True, engine="streaming")
        while True:
            try:
                texts = next(batches, None)
            except pl.exceptions.PolarsError as error:
                raise csv_fault(file.path, file.shown, file.separator, file.columns, error) from None
            if texts is None:
                break
            if len(file.columns) > 1:
                texts = texts.filter(~pl.all_horizontal(pl.all().is_null()))
            suspect = suspect or bool(texts[file.columns[-1]].null_count())
            yield self._parse(texts, file, row)
            row += texts.height
        if suspect and len(file.columns) > 1:
            check_shape(file.path, file.shown, file.separator, file.columns)

    def _parse(self, texts: pl.DataFrame, file: _File, first_row: int) -> pl.DataFrame:
        import polars as pl

        parsed = []
        for name in self._names:
            parser = self._parsers[name]
            before = parser.without_markers(texts[name])
            after = parser.parse(before)
            if after.null_count() != before.null_count():
                self._refuse(file, name, before, after, first_row)
            parsed.append(after.alias(name))
        return pl.DataFrame(parsed)

    def _refuse(self, file: _File, name: str, before: pl.Series, after: pl.Series, first_row: int) -> None:
        bad = before.is_not_null() & after.is_null()
        if name not in self._options.wanted:
            widened = wider(self._parsers[name], before.filter(bad))
            if widened is not None:
                self._parsers[name] = widened
                self.columns = self._types()
                raise TypesWidened
        row = int(bad.arg_max() or 0)
        line = line_of_row(file.path, file.separator, first_row + row)
        check_shape(file.path, file.shown, file.separator, file.columns)
        value = str(before[row])[:60]
        raise Invalid(
            f"{value!r} is not {self._parsers[name].words}",
            where=where(file.shown, line, name),
            next_step=f"mend the line, or give null_values=[{value!r}] if it means that there is no value",
        )


def _open(path: Path, shown: str) -> _File:
    """Read the header.

    Raises:
        Invalid: there is none, or it names a column twice or not at all.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(1 << 20)
            separator = max(_SEPARATORS, key=line.count)
            file.seek(0)
            columns = next(csv.reader(file, delimiter=separator), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise csv_fault(path, shown, ",", [], error) from None
    if not any(columns):
        raise Invalid("the file has no header", where=where(shown, 1), next_step="the first line must name the columns")
    for place, name in enumerate(columns, start=1):
        if not name.strip():
            raise Invalid(f"column {place} has no name", where=where(shown, 1), next_step="name every column")
        if columns.index(name) != place - 1:
            first = columns.index(name) + 1
            raise Invalid(
                f"columns {first} and {place} have the same name {name!r}",
                where=where(shown, 1),
                next_step="rename one of them",
            )
    return _File(path, shown, separator, columns)


def _scan(file: _File) -> pl.LazyFrame:
    import polars as pl

    schema = dict.fromkeys(file.columns, pl.String)
    return pl.scan_csv(file.path, schema=schema, separator=file.separator, glob=False)


def _sample(file: _File) -> pl.DataFrame:
    import polars as pl

    frame = _collected(file, _scan(file).head(SAMPLE_ROWS))
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _collected(file: _File, query: pl.LazyFrame) -> pl.DataFrame:
    import polars as pl

    try:
        return query.collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise csv_fault(file.path, file.shown, file.separator, file.columns, error) from None


def _same_columns(first: _File, other: _File) -> None:
    missing = [name for name in first.columns if name not in other.columns]
    surplus = [name for name in other.columns if name not in first.columns]
    if missing or surplus:
        raise different_columns(first.shown, other.shown, missing, surplus)


def different_columns(first: str, other: str, missing: Sequence[str], surplus: Sequence[str]) -> LoopwrightError:
    """The error for files of one directory that are not one table."""
    parts = [f"lacks {', '.join(map(repr, missing))}"] if missing else []
    parts += [f"has {', '.join(map(repr, surplus))} besides"] if surplus else []
    return Invalid(
        f"its columns are not those of {first}: it {' and '.join(parts)}",
        where=other,
        next_step="give all files of one table the same columns, or ingest them one by one",
    )
