"""Rows to compare an exported model on: those of a file, or rows drawn from what training saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid
from loopwright.models import Bundle, Input
from loopwright.serve.batch import open_rows
from loopwright.stats import ColumnKind, ColumnSketch

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

MAX_ROWS = 10_000
_DRAWN_ROWS = 1_000
_SEED = 20_231


def rows_of_file(path: Path, bundle: Bundle, more: Sequence[str] = ()) -> pl.DataFrame:
    """The first rows of a file, a folder of files or a Delta table: what the model takes, and the columns `more`.

    Raises:
        NotFound: there is nothing.
        Invalid: it cannot be read, lacks a column, or holds no row.
    """
    import polars as pl

    rows = open_rows(path, bundle.signature)
    wanted = [*bundle.signature.names, *more]
    missing = [name for name in wanted if name not in rows.columns]
    if missing:
        raise Invalid(f"the rows lack the column(s) {', '.join(missing)}", where=str(path))
    try:
        frame = rows.frame.select(list(dict.fromkeys(wanted))).head(MAX_ROWS).collect()
    except pl.exceptions.PolarsError as error:
        raise Invalid(f"the rows cannot be read: {str(error).splitlines()[0][:300]}", where=str(path)) from error
    if not frame.height:
        raise Invalid("there is no row to compare on", where=str(path))
    return frame


def drawn_rows(bundle: Bundle, count: int = _DRAWN_ROWS) -> pl.DataFrame:
    """The bundle's example, and rows drawn from its training profile: each column by itself, from its quantiles or by
    how often its values came. What columns have to do with one another is not in a profile, and not in these rows."""
    import numpy as np
    import polars as pl

    generator, profile = np.random.default_rng(_SEED), bundle.profile().columns
    columns = {}
    for item, example in zip(bundle.signature.inputs, bundle.example_row(), strict=True):
        drawn = _drawn(item, example, profile.get(item.name), count, generator)
        columns[item.name] = pl.Series(item.name, [example, *drawn], strict=False)
    return pl.DataFrame(columns)


def _drawn(
    item: Input, example: Any, sketch: ColumnSketch | None, count: int, generator: np.random.Generator
) -> list[Any]:
    """Values of one column; those of an input with a shape are its example, moved a little."""
    if item.shape:
        return _moved(item, example, count, generator)
    if item.dtype is DType.BOOL:
        values: list[Any] = generator.integers(0, 2, count).astype(bool).tolist()
    elif item.dtype is DType.STRING:
        values = _words(item, example, sketch, count, generator)
    else:
        values = _numbers(item, example, sketch, count, generator)
    if item.nullable and sketch is not None and sketch.nulls:
        share = sketch.nulls / (sketch.nulls + sketch.count)
        gone = generator.random(count) < share
        values = [None if absent else value for value, absent in zip(values, gone, strict=True)]
    return values


def _moved(item: Input, example: Any, count: int, generator: np.random.Generator) -> list[Any]:
    import numpy as np

    base = np.array(example)
    if base.dtype.kind != "f":
        return [example] * count
    spread = np.maximum(np.abs(base), 0.1) * 0.1
    moved: list[Any] = (base + spread * generator.normal(size=(count, *item.shape))).tolist()
    return moved


def _words(
    item: Input, example: Any, sketch: ColumnSketch | None, count: int, generator: np.random.Generator
) -> list[Any]:
    import numpy as np

    seen = sketch.top() if sketch is not None and sketch.kind is ColumnKind.CATEGORICAL else []
    found = seen or [(word, 1) for word in item.categories] or [(example or "", 1)]
    weights = np.array([number for _, number in found], dtype=np.float64)
    places = generator.choice(len(found), count, p=weights / weights.sum())
    return [found[place][0] for place in places]


def _numbers(
    item: Input, example: Any, sketch: ColumnSketch | None, count: int, generator: np.random.Generator
) -> list[Any]:
    import numpy as np

    shares = generator.random(count)
    if sketch is not None and sketch.kind is ColumnKind.NUMERIC and sketch.count:
        values = sketch.quantiles(shares)
    elif item.low is not None and item.high is not None:
        values = item.low + shares * (item.high - item.low)
    else:
        values = np.full(count, np.nan if example is None else float(example))
    drawn: list[Any] = (np.rint(values).astype(np.int64) if item.dtype is DType.INT64 else values).tolist()
    return drawn
