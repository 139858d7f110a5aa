"""JSON lines as rows: one object a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid, LoopwrightError
from loopwright.data.sources.csv_faults import where
from loopwright.data.sources.csv_types import infer
from loopwright.data.sources.source import BATCH_ROWS, ReadOptions, RowSource

if TYPE_CHECKING:
    import polars as pl

_SAMPLE_ROWS = 10_000
_JSON_NAMES = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


class JsonLinesSource(RowSource):
    """Rows of JSON-lines files. All lines are read for the types; times, which JSON has as text, are parsed."""

    def __init__(self, files: Sequence[tuple[Path, str]], options: ReadOptions, described: str) -> None:
        """Args:
        files: path and name to show of each.

        Raises:
            Invalid: a line is no JSON object, or a field has values that no one type holds.
        """
        self._files = files
        self._wanted = options.wanted
        self._schema = self._infer_schema()
        self._times = self._infer_times()
        super().__init__(dict(self._parsed(self._scan()).collect_schema()), self._read, described)

    def _infer_schema(self) -> pl.Schema:
        import polars as pl

        found: pl.Schema | None = None
        try:
            frame = pl.scan_ndjson([path for path, _ in self._files], infer_schema_length=None)
            found = frame.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._diagnose(error) from None
        if not found:
            raise Invalid("the file holds no object with fields", where=self._files[0][1])
        schema = dict(found)
        for name, dtype in self._wanted.items():
            if name in schema and dtype.base_type() in (pl.Int64, pl.Float64, pl.Boolean, pl.String):
                schema[name] = dtype
        return pl.Schema(schema)

    def _infer_times(self) -> dict[str, Any]:
        import polars as pl

        texts = [name for name, dtype in self._schema.items() if dtype == pl.String]
        texts = [name for name in texts if self._wanted.get(name) != pl.String]
        if not texts:
            return {}
        sample = self._collected(self._scan().select(texts).head(_SAMPLE_ROWS))
        parsers = {name: infer(sample[name], (), ()) for name in texts}
        return {name: parser for name, parser in parsers.items() if parser.kind in {"date", "time"}}

    def _scan(self) -> pl.LazyFrame:
        import polars as pl

        return pl.scan_ndjson([path for path, _ in self._files], schema=self._schema)

    def _parsed(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        import polars as pl

        dates = [pl.col(n).str.to_date("%Y-%m-%d") for n, p in self._times.items() if p.kind == "date"]
        times = [
            pl.col(n).str.to_datetime(p.pattern, time_unit="us") for n, p in self._times.items() if p.kind == "time"
        ]
        return frame.with_columns(dates + times)

    def _read(self) -> Iterator[pl.DataFrame]:
        import polars as pl

        frames = self._parsed(self._scan()).collect_batches(chunk_size=BATCH_ROWS, lazy=True, engine="streaming")
        try:
            yield from frames
        except pl.exceptions.PolarsError as error:
            raise self._diagnose(error) from None

    def _collected(self, frame: pl.LazyFrame) -> pl.DataFrame:
        import polars as pl

        try:
            return frame.collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise self._diagnose(error) from None

    def _diagnose(self, cause: Exception) -> LoopwrightError:
        """The error for lines that could not be read: a second, exact reading finds the first bad one."""
        times = {name: parser.words for name, parser in getattr(self, "_times", {}).items()}
        seen: dict[str, tuple[type, int]] = {}
        for path, shown in self._files:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    found = _fault(line, shown, number, seen) or self._bad_time(line, shown, number, times)
                    if found is not None:
                        return found
        if not seen:
            return Invalid("the file holds no object with fields", where=self._files[0][1])
        reason = str(cause).strip().splitlines()[0]
        return Invalid(f"the file cannot be read as JSON lines: {reason}", where=self._files[0][1])

    def _bad_time(self, line: bytes, shown: str, number: int, times: dict[str, str]) -> LoopwrightError | None:
        import polars as pl

        if not times or not line.strip():
            return None
        fields = msgspec.json.decode(line)
        for name, words in times.items():
            value = fields.get(name)
            if value is not None and self._times[name].parse(pl.Series([str(value)])).null_count():
                return Invalid(f"{str(value)[:60]!r} is not {words}", where=where(shown, number, name))
        return None


def _fault(line: bytes, shown: str, number: int, seen: dict[str, tuple[type, int]]) -> LoopwrightError | None:
    if not line.strip():
        return None
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Invalid(f"not valid JSON: {error}", where=where(shown, number), next_step="each line must be one object")
    if not isinstance(fields, dict):
        found = _JSON_NAMES.get(type(fields), "null")
        return Invalid(f"the line holds {found}", where=where(shown, number), next_step="each line must be one object")
    for name, value in fields.items():
        kind = float if type(value) is int else type(value)
        if value is None:
            continue
        before, line_before = seen.setdefault(name, (kind, number))
        if before is not kind:
            return Invalid(
                f"the field is {_JSON_NAMES[kind]} here and {_JSON_NAMES[before]} on line {line_before}",
                where=where(shown, number, name),
                next_step="give the field one type",
            )
    return None
