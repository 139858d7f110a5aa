"""Inputs and answers of a scoring, counted as they pass into the bins of what the model saw and gave in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.serve.batch.answering import Part
from loopwright.stats import BinnedTable, TableSketch

if TYPE_CHECKING:
    import polars as pl

    from loopwright.models import Bundle

ANSWER = "answer:"
"""What stands before an answer's name beside the names of inputs."""


def profile_of(bundle: Bundle) -> TableSketch:
    """What a version saw in training, and what it answered then, its answers under `answer:NAME`."""
    answers = {ANSWER + name: column for name, column in bundle.output_profile().columns.items()}
    return TableSketch({**bundle.profile().columns, **answers})


class Counting:
    """Counts a scoring's rows. `counts` is whole when the scoring is done."""

    def __init__(self, bundle: Bundle, prefix: str) -> None:
        self._profile, self._prefix = profile_of(bundle), prefix
        self.counts = BinnedTable.like(self._profile)

    def look(self, part: Part) -> bytes:
        """The counts of one part."""
        found = BinnedTable.like(self._profile)
        for name, column in found.columns.items():
            frame, wanted = part.rows, name
            if name.startswith(ANSWER):
                frame, wanted = part.answers, self._prefix + name.removeprefix(ANSWER)
            if wanted in frame.columns and not frame[wanted].dtype.is_nested():
                column.update(*_values(frame[wanted], numeric=column.is_numeric))
        found.rows = part.rows.height
        return found.to_bytes()

    def done(self, remembered: Sequence[bytes]) -> None:
        """Add up the counts of all parts."""
        for note in remembered:
            self.counts = self.counts.merge(BinnedTable.from_bytes(note))


def _values(column: pl.Series, *, numeric: bool) -> tuple[Sequence[object], int]:
    """A column's values, and how many more there are that cannot be counted: texts where training saw numbers."""
    import polars as pl

    if not numeric:
        return column.drop_nulls().cast(pl.String).to_list(), column.null_count()
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype.is_temporal():
        numbers = column.cast(pl.Int64).cast(pl.Float64)
    found: Sequence[object] = numbers.drop_nulls().to_numpy()  # type: ignore[assignment]  # an array will do
    return found, numbers.null_count()
