"""A part of the rows and a model: the answers, in the order of the rows, on whichever machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from loopwright.core import DType, Invalid
from loopwright.models import Output, Signature, columns_of, outputs_frame

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


class Scorer(Protocol):
    """What answers rows: a predictor, whatever runs it."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def predict(self, columns: Any) -> dict[str, np.ndarray[Any, Any]]:
        """An array per output for an array per input."""
        ...


class Part(NamedTuple):
    """Rows that were asked about together: the number of the first one, the rows, what is written for them, how many
    of them are bad."""

    first: int
    rows: pl.DataFrame
    answers: pl.DataFrame
    bad: int


class Lanes(Protocol):
    """Where parts are answered."""

    def answer(self, answering: Answering, frames: Iterable[tuple[int, pl.DataFrame]]) -> Iterator[Part]:
        """The parts in the order of `frames`, each with the number of its first row. Frames are taken as there is room
        for them, so that few are in memory.

        Raises:
            Invalid: a row lacks a value, or the model refuses it.
            ModelFailed: the model cannot answer.
            Unavailable: there is nobody to answer.
        """
        ...


class Here:
    """Parts answered one after the other in this process."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def answer(self, answering: Answering, frames: Iterable[tuple[int, pl.DataFrame]]) -> Iterator[Part]:
        """As `Lanes` says."""
        for first, frame in frames:
            yield Part(first, frame, *answering.answer(self._scorer, frame, first))


class Answering:
    """How a part is answered: which columns stay beside the answers, and what becomes of bad rows."""

    def __init__(self, name: str, kept: Sequence[str], prefix: str, skip_bad: bool) -> None:
        """Args:
        name: what errors call the rows.
        """
        self.name, self.kept, self.prefix, self.skip_bad = name, tuple(kept), prefix, skip_bad

    def answer(self, scorer: Scorer, frame: pl.DataFrame, first: int) -> tuple[pl.DataFrame, int]:
        """What is written for a part, and how many of its rows are bad.

        Args:
            first: the number of its first row.
        """
        import polars as pl

        outputs = scorer.signature.outputs
        good = self._good(scorer.signature, frame, first)
        asked = frame if good is None else frame.filter(good)
        if asked.height:
            found = self._predicted(scorer, asked, first)
        else:
            found = pl.DataFrame(schema={item.name: dtype_of(item) for item in outputs})
        answers = found.select(
            pl.col(item.name).cast(dtype_of(item)).alias(self.prefix + item.name) for item in outputs
        )
        if good is None:
            return pl.concat([frame.select(self.kept), answers], how="horizontal"), 0
        places = frame.with_row_index("__place").select("__place", *self.kept)  # there may be no kept column
        placed = answers.with_columns(pl.Series("__place", good.arg_true(), dtype=pl.UInt32))
        whole = places.join(placed, on="__place", how="left", maintain_order="left").drop("__place")
        return whole, frame.height - asked.height

    def _predicted(self, scorer: Scorer, asked: pl.DataFrame, first: int) -> pl.DataFrame:
        try:
            return outputs_frame(scorer.predict(columns_of(asked, scorer.signature)))
        except Invalid as error:
            where = f"{self.name}, rows {first:,} and after"
            raise Invalid(error.message, where=where, next_step=error.next_step) from error

    def _good(self, signature: Signature, frame: pl.DataFrame, first: int) -> pl.Series | None:
        """Which rows can be answered; None for all of them.

        Raises:
            Invalid: one cannot, and bad rows are not to be skipped.
        """
        import polars as pl

        needed = [item.name for item in signature.inputs if not item.nullable]
        holes = [name for name in needed if _has_holes(frame[name])]
        if not holes:
            return None
        bad = frame.select(pl.any_horizontal(_is_hole(frame[name]) for name in holes)).to_series()
        if not self.skip_bad:
            place = int(bad.arg_true()[0])
            name = next(name for name in holes if _has_holes(frame[name].slice(place, 1)))
            raise Invalid(
                f"row {first + place:,} has no value in column {name!r}, and training never saw it missing",
                where=self.name,
                next_step="mend the rows, or skip such rows: they get empty answers",
            )
        return ~bad


def dtype_of(output: Output) -> pl.DataType:
    """The type of an answer's column."""
    import polars as pl

    one = {
        DType.BOOL: pl.Boolean(),
        DType.INT64: pl.Int64(),
        DType.FLOAT32: pl.Float32(),
        DType.FLOAT64: pl.Float64(),
        DType.STRING: pl.String(),
    }[output.dtype]
    return pl.List(one) if output.shape else one


def _has_holes(column: pl.Series) -> bool:
    return bool(column.null_count()) or (column.dtype.is_float() and bool(column.is_nan().any()))


def _is_hole(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan().fill_null(True) if column.dtype.is_float() else column.is_null()
