"""Frames on their way into a Delta table: one stream of batches, of types that Delta has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from loopwright.core import Invalid
from loopwright.store.tables.ahead import Ahead

if TYPE_CHECKING:
    import polars as pl

    Data: TypeAlias = pl.DataFrame | pl.LazyFrame | Iterable[pl.DataFrame]
else:
    Data: TypeAlias = Any

NewColumns = Literal["refuse", "add"]

_BATCH_ROWS = 65_536


class Batches:
    """A source as a stream of frames with one schema, of which a few batches at a time are in memory.

    Unsigned integers are widened to signed ones, categories become strings, arrays lists, times UTC microseconds, and
    columns that are all null strings: Delta has no others. `error` is what the source raised.
    """

    def __init__(self, data: Data) -> None:
        import polars as pl

        if isinstance(data, pl.LazyFrame):
            self.schema = stored_schema(data.collect_schema())
            self._frames: Iterator[pl.DataFrame] = data.collect_batches(
                chunk_size=_BATCH_ROWS, lazy=True, engine="streaming"
            )
        elif isinstance(data, pl.DataFrame):
            self.schema = stored_schema(data.schema)
            self._frames = data.iter_slices(_BATCH_ROWS) if data.height else iter([data])
        else:
            frames = iter(data)
            first = next(frames, None)
            if first is None:
                raise Invalid(
                    "there is no frame to write, so its columns are not known", next_step="give an empty frame"
                )
            self.schema = stored_schema(first.schema)
            self._frames = chain([first], frames)
        self.error: BaseException | None = None
        # delta-rs asks for batches on a thread on which a source could not use delta-rs itself.
        self._ahead = None if isinstance(data, pl.DataFrame) else Ahead(self._conformed())

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def reorder(self, schema: pl.Schema) -> None:
        """Give the columns in the order of `schema`, which has the same names and types."""
        self.schema = schema

    def arrow(self) -> Any:
        """The stream as Arrow batches, as delta-rs takes them."""
        from arro3.core import RecordBatchReader, Table

        schema = Table.from_arrow(self.schema.to_frame()).schema
        frames = self._conformed() if self._ahead is None else self._ahead.items()
        return RecordBatchReader.from_batches(
            schema, (batch for frame in frames for batch in Table.from_arrow(frame).to_batches())
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Within this, what the source raised comes out as it is, instead of the writer's text about it."""
        try:
            yield
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    def _conformed(self) -> Iterator[pl.DataFrame]:
        try:
            for frame in self._frames:
                yield conform(frame, self.schema)
        except Exception as error:
            self.error = error
            raise


def stored_schema(schema: pl.Schema) -> pl.Schema:
    """The schema that a Delta table can hold for a frame of this schema.

    Raises:
        Invalid: no columns, or a column of a type that Delta has nothing for (a time of day, a duration, an object).
    """
    import polars as pl

    if not schema:
        raise Invalid("a table needs at least one column")
    return pl.Schema({name: _stored(name, dtype) for name, dtype in schema.items()})


def conform(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The frame with exactly these columns, in this order, cast where no value changes.

    Raises:
        Invalid: a column is missing or too many, or a value does not fit its type.
    """
    import polars as pl

    if frame.schema == schema:
        return frame
    _refuse_other_columns(frame.schema, schema)
    try:
        return frame.select(
            pl.col(name) if frame.schema[name] == dtype else pl.col(name).cast(dtype, strict=True)
            for name, dtype in schema.items()
        )
    except pl.exceptions.PolarsError as error:
        raise Invalid(f"a value does not fit the column's type: {error}", next_step="cast the column first") from None


def fitting(key: str, given: pl.Schema, kept: pl.Schema, new_columns: NewColumns) -> pl.Schema:
    """The given columns in the table's order.

    Raises:
        Invalid: a column is missing, has another type, or is new and new ones are refused.
    """
    import polars as pl

    wrong = {name: (given[name], kept[name]) for name in given if name in kept and given[name] != kept[name]}
    if wrong:
        said = "; ".join(f"{name!r} is {found}, the table has {wanted}" for name, (found, wanted) in wrong.items())
        raise Invalid(f"the rows do not fit the table {key!r}: {said}", next_step="cast these columns first")
    surplus = [name for name in given if name not in kept]
    missing = [name for name in kept if name not in given]
    if new_columns == "refuse" and (surplus or missing):
        raise Invalid(
            f"the rows do not fit the table {key!r}: missing columns {missing}, new columns {surplus}",
            next_step="give the table's columns, or allow new ones",
        )
    return pl.Schema({name: given[name] for name in (*(n for n in kept if n in given), *surplus)})


def _refuse_other_columns(found: pl.Schema, wanted: pl.Schema) -> None:
    missing, surplus = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    if missing or surplus:
        raise Invalid(
            f"the frames of one write have different columns: missing {missing}, surplus {surplus}",
            next_step="give all frames the same columns",
        )
    for name, dtype in wanted.items():
        if _stored(name, found[name]) != dtype:
            raise Invalid(f"column {name!r} is {found[name]} in one frame and {dtype} in another")


def _stored(name: str, dtype: pl.DataType) -> pl.DataType:
    import polars as pl

    simple: type[pl.DataType] | None = _replacements().get(dtype.base_type())
    if simple is not None:
        return simple()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC" if dtype.time_zone else None)
    if isinstance(dtype, (pl.List, pl.Array)):
        return pl.List(_stored(name, dtype.inner))  # type: ignore[arg-type]  # inner is an instance in a schema
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(field.name, _stored(name, field.dtype)) for field in dtype.fields])  # type: ignore[arg-type]  # as above
    if dtype.base_type() in {pl.Time, pl.Duration, pl.Object, pl.Unknown}:
        raise Invalid(
            f"column {name!r} is {dtype}, which a Delta table cannot hold",
            next_step="cast it to an integer, a string or a timestamp first",
        )
    return dtype


def _replacements() -> dict[Any, Any]:
    import polars as pl

    return {
        pl.UInt8: pl.Int16,
        pl.UInt16: pl.Int32,
        pl.UInt32: pl.Int64,
        pl.UInt64: pl.Int64,
        pl.Int128: pl.Int64,
        pl.Categorical: pl.String,
        pl.Enum: pl.String,
        pl.Null: pl.String,
    }
