"""Which type the texts of a CSV column have, and how to parse them exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Invalid

if TYPE_CHECKING:
    import polars as pl

_TIMES = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
)
_TRUTH = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "date": "a date (YYYY-MM-DD)",
    "time": "a time",
}


class Parser(msgspec.Struct, frozen=True):
    """How to read one column.

    Attributes:
        kind: `empty` (no value seen yet), `int`, `float`, `bool`, `date`, `time` or `text`.
        pattern: of a time.
        nulls: texts that stand for "no value".
    """

    kind: str
    pattern: str = ""
    nulls: tuple[str, ...] = ()

    @property
    def dtype(self) -> pl.DataType:
        """The type of the parsed column."""
        import polars as pl

        zone = "UTC" if self.pattern.endswith("z") else None
        return {
            "int": pl.Int64(),
            "float": pl.Float64(),
            "bool": pl.Boolean(),
            "date": pl.Date(),
            "time": pl.Datetime("us", zone),
        }.get(self.kind, pl.String())

    @property
    def words(self) -> str:
        """What a value should have been, for an error."""
        return _WORDS.get(self.kind, "text")

    def without_markers(self, texts: pl.Series) -> pl.Series:
        """Texts with the markers of "no value" made null."""
        return texts.set(texts.is_in(list(self.nulls)), None) if self.nulls else texts

    def parse(self, texts: pl.Series) -> pl.Series:
        """Parsed values; null where a text does not parse."""
        import polars as pl

        if self.kind == "bool":
            return texts.replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
        if self.kind == "date":
            return texts.str.to_date("%Y-%m-%d", strict=False)
        if self.kind == "time":
            return texts.str.to_datetime(self.pattern, time_unit="us", strict=False)
        return texts.cast(self.dtype, strict=False)


def infer(texts: pl.Series, null_values: Sequence[str] | None, markers: Sequence[str]) -> Parser:
    """The parser that fits every text of a sample.

    Args:
        null_values: texts that are "no value" in any column, or None to take `markers` for columns that are no text.
    """
    nulls = tuple(markers if null_values is None else null_values)
    values = texts.drop_nulls()
    values = values.filter(~values.is_in(list(nulls))).unique()
    if not len(values):
        return Parser("empty", nulls=nulls)
    for kind in ("int", "float", "bool", "date"):
        if _fits(Parser(kind), values):
            return Parser(kind, nulls=nulls)
    for pattern in _TIMES:
        if _fits(Parser("time", pattern), values):
            return Parser("time", pattern, nulls)
    return as_text(null_values)


def as_text(null_values: Sequence[str] | None) -> Parser:
    """The parser of a text column: only what the caller named counts as "no value"."""
    return Parser("text", nulls=tuple(null_values or ()))


def _fits(parser: Parser, values: pl.Series) -> bool:
    if parser.kind in {"int", "float"} and bool(values.str.contains(r"^[+-]?0\d").any()):
        return False  # codes such as 00501 are text: as numbers they would lose their zeros
    return not parser.parse(values).null_count()


def wider(parser: Parser, refused: pl.Series) -> Parser | None:
    """The parser of a wider type that takes the texts that this one refused; None if there is none but text."""
    steps = {"int": [Parser("float")], "date": [Parser("time", pattern) for pattern in _TIMES]}
    for candidate in steps.get(parser.kind, []):
        if not candidate.parse(refused).null_count() and candidate.kind == "float":
            return Parser(candidate.kind, candidate.pattern, parser.nulls)
    return None


def joined(first: Parser, second: Parser, null_values: Sequence[str] | None) -> Parser:
    """The parser that fits the samples of both, as of two files of one table."""
    if first == second or second.kind == "empty":
        return first
    if first.kind == "empty":
        return second
    if {first.kind, second.kind} == {"int", "float"}:
        return Parser("float", nulls=first.nulls)
    return as_text(null_values)


def wanted(dtype: pl.DataType, sample: Parser, column: str, null_values: Sequence[str] | None) -> Parser:
    """The parser for a column that is appended to one of type `dtype`.

    Raises:
        Invalid: text cannot become that type.
    """
    import polars as pl

    if dtype == pl.String:
        return as_text(null_values)
    if dtype.is_float():
        return Parser("float", nulls=sample.nulls)
    if dtype.is_integer():
        return Parser("int", nulls=sample.nulls)
    if dtype == pl.Boolean:
        return Parser("bool", nulls=sample.nulls)
    if dtype == pl.Date:
        return Parser("date", nulls=sample.nulls)
    if isinstance(dtype, pl.Datetime):
        pattern = sample.pattern or (_TIMES[0] if dtype.time_zone else _TIMES[2])
        return Parser("time", pattern, sample.nulls)
    raise Invalid(f"a CSV file cannot be appended to a column of type {dtype}", where=f"column {column!r}")
