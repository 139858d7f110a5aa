"""What is wrong with a CSV file, and where: found by a second, exact reading once the fast one has failed."""

from __future__ import annotations

import csv
from pathlib import Path

from loopwright.core import Invalid, LoopwrightError

_LONGEST_FIELD = 16 << 20


def where(shown: str, line: int, column: str = "") -> str:
    """A place in a file, as errors name it."""
    return f"{shown}, line {line}" + (f", column {column!r}" if column else "")


def line_of_row(path: Path, separator: str, row: int) -> int:
    """The line on which a data row (0 is the first under the header) begins; blank lines hold no row."""
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        before, seen = 0, -2
        for fields in reader:
            if any(fields):
                seen += 1
                if seen == row:
                    return before + 1
            before = reader.line_num
    return before


def csv_fault(path: Path, shown: str, separator: str, columns: list[str], cause: Exception) -> LoopwrightError:
    """The error for a file that could not be read."""
    found = _bad_encoding(path, shown) or _bad_shape(path, shown, separator, columns)
    if found is not None:
        return found
    reason = str(cause).strip().splitlines()[0]
    return Invalid(
        f"the file cannot be read as CSV: {reason}", where=shown, next_step="open it in an editor and mend it"
    )


def check_shape(path: Path, shown: str, separator: str, columns: list[str]) -> None:
    """Make sure that every line has as many fields as the header.

    Raises:
        Invalid: a line has not.
    """
    import polars as pl

    lines = pl.scan_lines(path).with_row_index("n", offset=1)
    text = pl.col("line").str.strip_chars("\r")
    count = text.str.count_matches(separator, literal=True)
    bad = pl.col("n").filter((count != len(columns) - 1) & (text != "") & (pl.col("n") > 1)).first()
    row = lines.select(quoted=text.str.contains('"', literal=True).any(), bad=bad).collect(engine="streaming").row(0)
    if row[0] or row[1] is not None:
        found = _bad_shape(path, shown, separator, columns)
        if found is not None:
            raise found


def _bad_encoding(path: Path, shown: str) -> LoopwrightError | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                found = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}, which is not UTF-8"
                advice = f"convert the file, as with: iconv -f LATIN1 -t UTF-8 {Path(shown).name}"
                return Invalid(found, where=where(shown, number), next_step=advice)
            if b"\x00" in line:
                return Invalid(
                    "the line holds a NUL byte", where=where(shown, number), next_step="is this a text file?"
                )
    return None


def _bad_shape(path: Path, shown: str, separator: str, columns: list[str]) -> LoopwrightError | None:
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        start = 1
        try:
            for fields in reader:
                if any(fields) and len(fields) != len(columns):
                    return _wrong_count(shown, start, fields, columns)
                start = reader.line_num + 1
        except csv.Error as error:
            return _bad_quote(shown, start, str(error))
    return None


def _wrong_count(shown: str, line: int, fields: list[str], columns: list[str]) -> LoopwrightError:
    text = f"the line has {len(fields)} fields; the header names {len(columns)}"
    if len(fields) < len(columns):
        place = where(shown, line, columns[len(fields)])
        return Invalid(
            text, where=place, next_step="add the missing fields, or put quotes around a field that holds a line break"
        )
    extra = fields[len(columns)]
    return Invalid(
        f"{text}; the first one too many is {extra[:40]!r}",
        where=where(shown, line),
        next_step="put quotes around a field that holds the separator",
    )


def _bad_quote(shown: str, line: int, reason: str) -> LoopwrightError:
    if "unexpected end of data" in reason:
        reason = "a quote is opened and never closed"
    return Invalid(reason, where=where(shown, line), next_step='close the quote, or double a quote inside a field: ""')
