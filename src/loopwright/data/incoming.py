"""Rows on their way into a version: brought to the types that are stored, hashed and counted as they pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from loopwright.core import Invalid
from loopwright.data.contents import PartDigest
from loopwright.data.dtypes import cast_expressions, dtype_word, fits, storable, storable_columns
from loopwright.data.sources.source import RowSource

if TYPE_CHECKING:
    import polars as pl


class Incoming:
    """One pass over a source. `digest` is complete once `frames` is used up."""

    def __init__(self, source: RowSource, target: Mapping[str, pl.DataType] | None, name: str) -> None:
        """Args:
        target: the columns of the version that the rows are appended to; None where they replace it.
        name: of the dataset, for errors.

        Raises:
            Invalid: a column is missing, too many, of another type, or of a type that cannot be stored.
        """
        self._source, self._name = source, name
        if target is not None:
            _refuse_misfits(source, target, name)
        self.columns = dict(target) if target is not None else storable_columns(source.columns)
        self.digest = PartDigest(self.columns)

    def frames(self, each: Callable[[], None], at_end: Callable[[], None]) -> Iterator[pl.DataFrame]:
        """The rows, at least one frame (perhaps of no rows) so that the columns are known.

        Args:
            each: called for each batch.
            at_end: called when all rows have passed, before the reader is told so; what it raises undoes the write.
        """
        import polars as pl

        shown = False
        for batch in self._source.batches():
            frame = self._stored(batch)
            self.digest.update(frame)
            each()
            yield frame
            shown = True
        if not shown:
            yield pl.DataFrame(schema=self.columns)
        at_end()

    def _stored(self, batch: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        if dict(batch.schema) == self.columns and batch.columns == list(self.columns):
            return batch
        try:
            return batch.select(cast_expressions(dict(batch.schema), self.columns))
        except pl.exceptions.PolarsError as error:
            raise self._blame(batch, error) from None

    def _blame(self, batch: pl.DataFrame, error: Exception) -> Exception:
        import polars as pl

        for expression, (column, dtype) in zip(
            cast_expressions(dict(batch.schema), self.columns), self.columns.items(), strict=True
        ):
            try:
                batch.select(expression)
            except pl.exceptions.PolarsError as cause:
                return Invalid(
                    f"a value does not fit the type {dtype}: {str(cause).strip().splitlines()[0]}",
                    where=f"dataset {self._name!r}, column {column!r}",
                    next_step="mend the values, or cast the column before",
                )
        return error


def _refuse_misfits(source: RowSource, target: Mapping[str, pl.DataType], name: str) -> None:
    missing = [column for column in target if column not in source.columns]
    surplus = [column for column in source.columns if column not in target]
    if missing or surplus:
        parts = [f"lacks {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"has {', '.join(map(repr, surplus))} besides"] if surplus else []
        raise Invalid(
            f"{source.described} cannot be appended to dataset {name!r}: it {' and '.join(parts)}",
            next_step="append rows with the same columns, or ingest with mode='replace'",
        )
    for column, dtype in source.columns.items():
        if not fits(storable(dtype, column), target[column]) and not fits(dtype, target[column]):
            raise Invalid(
                f"{source.described} has {dtype_word(dtype)} ({dtype}) where dataset {name!r} "
                f"has {dtype_word(target[column])} ({target[column]})",
                where=f"column {column!r}",
                next_step="cast the column, or ingest with mode='replace'",
            )
