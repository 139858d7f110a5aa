"""What is wrong with rows that could not be read, and where: a second, exact reading once the fast one has failed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Conflict, Corrupt, Invalid, LoopwrightError

if TYPE_CHECKING:
    import polars as pl

_CHUNK_ROWS = 65_536
_KINDS: dict[type, str] = {str: "text", bool: "a truth value", list: "a list", dict: "an object"}


class Place(msgspec.Struct, frozen=True):
    """Where rows come from, for errors.

    Attributes:
        name: what people call it.
        kind: `csv`, `jsonl`, `parquet`, `delta`, or `dataset`.
        files: in the order of the rows; of a table none.
        separator: of CSV files.
        types: that the columns are read as.
    """

    name: str
    kind: str
    files: tuple[Path, ...] = ()
    separator: str = ","
    types: dict[str, Any] = {}

    def fault(self, error: BaseException) -> LoopwrightError:
        """The error that names file, line and column of what the reader stumbled over."""
        find = {"csv": self._csv_fault, "jsonl": self._json_fault, "parquet": self._parquet_fault}.get(self.kind)
        for path in self.files if find is not None else ():
            found = _found(find, path, error)
            if found is not None:
                return found
        return self._plain(error)

    def check_headers(self) -> None:
        """Make sure that CSV files have headers, all with the same columns.

        Raises:
            Invalid: one has not; it is named.
        """
        first = header_of(self.files[0], self.separator) if self.files else []
        for path in self.files:
            names = header_of(path, self.separator)
            twice = [name for name in names if names.count(name) > 1]
            if not any(names):
                raise Invalid("the file has no header", where=str(path), next_step="its first line names the columns")
            if twice:
                raise Invalid(
                    f"two columns have the name {twice[0]!r}", where=f"{path}, line 1", next_step="rename one"
                )
            if names != first:
                raise Invalid(
                    f"the columns are {', '.join(names)}, and those of {self.files[0].name} are {', '.join(first)}",
                    where=f"{path}, line 1",
                    next_step="give all files of one table the same columns",
                )

    def check_shape(self) -> None:
        """Make sure that every line of CSV files has as many fields as its header.

        Raises:
            Invalid: a line has not; file and line are named.
        """
        from loopwright.data import check_shape

        for path in self.files:
            with _unpacked(path) as plain:
                check_shape(plain, str(path), self.separator, header_of(plain, self.separator))

    def _plain(self, error: BaseException) -> LoopwrightError:
        said = _first_line(error)
        if self.kind == "dataset":
            return Corrupt(f"the rows cannot be read: {said}", where=self.name, next_step="run loopwright fsck")
        if self.kind == "delta":
            return Conflict(
                f"the table's files cannot be read: {said}",
                where=self.name,
                next_step="if it was vacuumed or moved meanwhile, say the same again",
            )
        return Invalid(f"the rows cannot be read: {said}", where=self.name, next_step="check that the files are whole")

    def _csv_fault(self, path: Path, error: BaseException) -> LoopwrightError | None:
        from loopwright.data import csv_fault

        with _unpacked(path) as plain:
            names = header_of(plain, self.separator)
            found = csv_fault(plain, str(path), self.separator, names, _as_exception(error))
            if found.where != str(path):  # a line was found
                return found
            return self._bad_text(plain, path)

    def _bad_text(self, plain: Path, path: Path) -> LoopwrightError | None:
        """The first text that does not fit its column's type."""
        import polars as pl

        from loopwright.data import line_of_row

        types = {name: dtype for name, dtype in self.types.items() if dtype != pl.String}
        texts = pl.scan_csv(plain, separator=self.separator, infer_schema=False, glob=False).select(list(types))
        before = 0
        for batch in texts.collect_batches(chunk_size=_CHUNK_ROWS, maintain_order=True):
            places = {name: _first_misfit(batch[name], dtype) for name, dtype in types.items()}
            bad = {name: place for name, place in places.items() if place is not None}
            if bad:
                name = min(bad, key=lambda each: bad[each])
                line = line_of_row(plain, self.separator, before + bad[name])
                said = f"{str(batch[name][bad[name]])[:60]!r} is not {_words(types[name])}"
                return Invalid(said, where=f"{path}, line {line}, column {name!r}", next_step="mend the line")
            before += batch.height
        return None

    def _json_fault(self, path: Path, _error: BaseException) -> LoopwrightError | None:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                found = self._bad_line(line, f"{path}, line {number}") if line.strip() else None
                if found is not None:
                    return found
        return None

    def _bad_line(self, line: bytes, where: str) -> LoopwrightError | None:
        try:
            fields = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Invalid(f"not valid JSON: {error}", where=where, next_step="each line must be one object")
        if not isinstance(fields, dict):
            return Invalid("the line holds no object", where=where, next_step="each line must be one object")
        for name, dtype in self.types.items():
            kind = _KINDS.get(type(fields.get(name)))
            if dtype.is_numeric() and kind is not None:
                value = str(fields[name])[:60]
                return Invalid(
                    f"{value!r} is {kind}, not {_words(dtype)}",
                    where=f"{where}, column {name!r}",
                    next_step="mend the line",
                )
        return None

    def _parquet_fault(self, path: Path, _error: BaseException) -> LoopwrightError | None:
        """The first file that cannot be read by itself, or has other columns."""
        import polars as pl

        try:
            frame = pl.scan_parquet(path, glob=False)
            schema = frame.collect_schema()
            odd = [name for name, dtype in self.types.items() if schema.get(name, dtype) != dtype]
            lost = [name for name in self.types if name not in schema]
            if odd or lost:
                said = f"lacks {', '.join(lost)}"
                if not lost:
                    said = f"has column {odd[0]!r} as {schema[odd[0]]}, not {self.types[odd[0]]}"
                return Invalid(
                    f"the file {said}", where=str(path), next_step=f"write it as {self.files[0].name} is written"
                )
            for _ in frame.collect_batches(chunk_size=_CHUNK_ROWS):
                pass
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            return Invalid(
                f"the file is damaged or cut short: {_first_line(error)}",
                where=str(path),
                next_step="write or copy it again",
            )
        return None


def _found(
    find: Callable[[Path, BaseException], LoopwrightError | None] | None, path: Path, error: BaseException
) -> LoopwrightError | None:
    """What a second reading finds. It may meet the same trouble as the first one: then there is no better word."""
    import polars as pl

    try:
        return None if find is None else find(path, error)
    except LoopwrightError as better:
        return better
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file, or what is packed in it, in a place that lasts as long as the block."""
    from loopwright.data import unpack_gzip

    if path.suffix.lower() != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="loopwright-") as folder:
        plain = Path(folder) / path.stem
        unpack_gzip(path, str(path), plain)
        yield plain


def header_of(path: Path, separator: str) -> list[str]:
    """The names of a CSV file's columns; the file may be packed."""
    import csv
    import gzip

    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    opened = gzip.open if packed else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader(file, delimiter=separator), [])


def _first_misfit(texts: pl.Series, dtype: pl.DataType) -> int | None:
    import polars as pl

    if dtype == pl.Boolean:
        fitting = texts.is_in(["true", "false"])
    else:
        fitting = texts.str.strip_chars(" ").cast(dtype, strict=False).is_not_null()
    misfits = texts.is_not_null() & ~fitting
    return int(misfits.arg_max() or 0) if misfits.any() else None


def _words(dtype: pl.DataType) -> str:
    import polars as pl

    if dtype == pl.Boolean:
        return "true or false"
    if dtype.is_integer():
        return "a whole number"
    return "a number" if dtype.is_numeric() else f"of the type {dtype}"


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
