"""The parity proof: the converted model against the original, row by row.

Both are fed the same numbers: the sample cast to float32 where the graph takes float32, so that the proof is about the
conversion and not about the width of the inputs. What the cast itself changes is measured beside it.

A row for which the graph gives what the original gives for the row as it was, before the cast, agrees as well: that is
what a user asks for. Where a tree's thresholds are values of the training data, as those of scikit-learn's histogram
gradient boosting are, the cast alone would move such rows to the other side in the original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core import DType, Invalid
from loopwright.models.model import Input, Parity

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]
    Outputs = Mapping[str, Array]
    Original = Callable[[pl.DataFrame], Outputs]

EDGE_SHARE = 0.02
"""At most this share of the sample may sit on the edge of a split."""
_NUDGES = 24
_MAX_NUDGED_ROWS = 200
_ULPS = 8


def cast_sample(sample: pl.DataFrame, inputs: tuple[Input, ...]) -> pl.DataFrame:
    """The sample with each number as float32 holds it; integers that the graph takes as integers are left alone."""
    import polars as pl

    narrowed: list[pl.Expr | pl.Series] = [
        pl.col(item.name).cast(pl.Float32).cast(pl.Float64)
        for item in inputs
        if not item.shape
        and (item.dtype in (DType.FLOAT32, DType.FLOAT64) or (item.dtype is DType.INT64 and item.nullable))
    ]
    narrowed += [_narrowed(sample[item.name]) for item in inputs if item.shape and item.dtype is DType.FLOAT64]
    return sample.with_columns(narrowed) if narrowed else sample


def _narrowed(column: pl.Series) -> pl.Series:
    """A column of several values a row, each as float32 holds it."""
    import numpy as np
    import polars as pl

    values = np.array(column.to_list(), dtype=np.float32).astype(np.float64)
    return pl.Series(column.name, values, dtype=pl.Array(pl.Float64, values.shape[1:]))


def prove(
    original: Original,
    converted: Callable[[pl.DataFrame], Outputs],
    sample: pl.DataFrame,
    inputs: tuple[Input, ...],
    tolerance: float,
) -> Parity:
    """Compare two models on sample rows.

    Args:
        original, converted: take rows, give the task's outputs.
        sample: rows as training saw them.
        inputs: the signature's inputs.
        tolerance: a row agrees where |difference| <= tolerance + tolerance * |original|.

    Raises:
        Invalid: they differ; the worst row is shown. The tolerance is no number from 0 to below 1.
    """
    import numpy as np

    if not 0.0 <= tolerance < 1.0:  # also what is no number
        raise Invalid(f"the tolerance {tolerance} proves nothing", next_step="give a number from 0 to below 1")
    rows = cast_sample(sample, inputs)
    before, found = original(sample), converted(rows)
    expected = _nearer(original(rows), before, found, tolerance)
    differs = _differs(expected, found, tolerance)
    on_edge = _on_edge(original, rows, found, differs, inputs, tolerance)
    counted = differs & ~on_edge
    kept = ~on_edge
    absolute, relative = _differences(expected, found, tolerance)
    cast_agrees = 1.0 - float(np.mean(_differs(before, found, tolerance))) if sample.height else 1.0
    parity = Parity(
        rows=sample.height,
        tolerance=tolerance,
        max_abs=float(absolute[kept].max(initial=0.0)),
        max_rel=float(relative[kept].max(initial=0.0)),
        label_agreement=_label_agreement(expected, found, tolerance),
        edge_rows=int(on_edge.sum()),
        cast_agreement=cast_agrees,
        passed=bool(not counted.any() and on_edge.mean() <= EDGE_SHARE),
    )
    if not parity.passed:
        worst = int(np.argmax(np.where(counted, absolute, -1.0))) if counted.any() else int(np.argmax(on_edge))
        raise _refusal(parity, int(counted.sum()), worst, rows, expected, found)
    return parity


def unproved() -> Parity:
    """The parity of a model that has no other form to compare with."""
    return Parity(0, 0.0, 0.0, 0.0, 1.0, 0, 1.0, passed=True)


def _nearer(cast: Outputs, before: Outputs, found: Outputs, tolerance: float) -> Outputs:
    """The original's answers for the cast rows; or for the row as it was, where only that is what was found."""
    import numpy as np

    moved = _differs(cast, found, tolerance) & ~_differs(before, found, tolerance)
    if not moved.any():
        return cast
    return {
        name: np.where(moved.reshape(-1, *[1] * (values.ndim - 1)), before[name], values)
        for name, values in cast.items()
    }


def _differences(expected: Outputs, found: Outputs, tolerance: float) -> tuple[Array, Array]:
    """The largest absolute and relative difference of each row over its numeric outputs; a label that differs is 1."""
    import numpy as np

    count = len(next(iter(expected.values())))
    absolute, relative = np.zeros(count), np.zeros(count)
    for name, wanted in expected.items():
        got = found[name]
        if name == "label" or _is_text(wanted):
            gap = _words_differ(name, expected, got, tolerance).astype(np.float64)
            absolute, relative = np.maximum(absolute, gap), np.maximum(relative, gap)
            continue
        left, right = wanted.reshape(count, -1).astype(np.float64), got.reshape(count, -1).astype(np.float64)
        gap = np.where(np.isnan(left) & np.isnan(right), 0.0, np.abs(left - right))
        gap = np.where(np.isnan(gap), np.inf, gap)
        absolute = np.maximum(absolute, gap.max(axis=1, initial=0.0))
        scaled = gap / np.maximum(np.abs(left), np.finfo(np.float32).tiny)
        relative = np.maximum(relative, np.where(gap == 0.0, 0.0, scaled).max(axis=1, initial=0.0))
    return absolute, relative


def _differs(expected: Outputs, found: Outputs, tolerance: float) -> Array:
    """Which rows differ. Labels count unless the scores agree: then the row is a tie, which either answer breaks."""
    import numpy as np

    count = len(next(iter(expected.values())))
    differs = np.zeros(count, dtype=bool)
    for name, wanted in expected.items():
        if name == "label" or _is_text(wanted):
            differs |= _words_differ(name, expected, found[name], tolerance)
            continue
        left = expected[name].reshape(count, -1).astype(np.float64)
        right = found[name].reshape(count, -1).astype(np.float64)
        close = np.isclose(right, left, rtol=tolerance, atol=tolerance, equal_nan=True)
        differs |= ~close.all(axis=1)
    return differs


def _is_text(values: Array) -> bool:
    return values.dtype.kind in "OUS"


def _words_differ(name: str, expected: Outputs, got: Array, tolerance: float) -> Array:
    """Which rows have another label or text; a label that stands at a tie differs from none."""
    import numpy as np

    wanted = expected[name]
    differs = np.asarray((_text(wanted) != _text(got)).reshape(len(wanted), -1).any(axis=1))
    return differs & ~_tied(expected, tolerance) if name == "label" else differs


def _tied(expected: Outputs, tolerance: float) -> Array:
    import numpy as np

    if "probability" in expected:
        return np.asarray(np.abs(expected["probability"] - 0.5) <= tolerance)
    if "probabilities" in expected and expected["probabilities"].shape[1] > 1:
        best = np.sort(expected["probabilities"], axis=1)
        return np.asarray(best[:, -1] - best[:, -2] <= 2 * tolerance)
    return np.zeros(len(expected["label"]), dtype=bool)


def _text(labels: Array) -> Array:
    import numpy as np

    return labels.astype(np.int64).astype(str) if labels.dtype.kind in "biuf" else labels.astype(str)


def _label_agreement(expected: Outputs, found: Outputs, tolerance: float) -> float:
    if "label" not in expected or not len(expected["label"]):
        return 1.0
    same = _text(expected["label"]) == _text(found["label"])
    return float((same | _tied(expected, tolerance)).mean())


def _on_edge(
    original: Original, rows: pl.DataFrame, found: Outputs, differs: Array, inputs: tuple[Input, ...], tolerance: float
) -> Array:
    """Which of the rows that differ sit on a split: where moving the inputs by a few float32 steps makes the original
    itself give the converted model's answer."""
    import numpy as np

    on_edge = np.zeros(rows.height, dtype=bool)
    suspects = np.flatnonzero(differs)
    if not len(suspects) or len(suspects) > _MAX_NUDGED_ROWS:
        return on_edge
    generator = np.random.default_rng(0)
    part, sizes = rows[suspects.tolist()], _usual_sizes(rows, inputs)
    answers = {name: values[suspects] for name, values in found.items()}
    for _ in range(_NUDGES):
        agrees = ~_differs(original(_nudged(part, sizes, generator)), answers, tolerance)
        on_edge[suspects[agrees]] = True
        if on_edge[suspects].all():
            break
    return on_edge


def _nudged(rows: pl.DataFrame, sizes: Mapping[str, float], generator: np.random.Generator) -> pl.DataFrame:
    """The rows with each number moved by up to eight steps of float32: of the number, or of what is usual in its
    column, where that is more, since a step before the trees may have added or taken away as much."""
    import numpy as np
    import polars as pl

    moved = []
    for name, size in sizes.items():
        values = rows[name].to_numpy().astype(np.float64)
        unit = np.spacing(np.maximum(np.abs(values), size).astype(np.float32))
        step = generator.integers(-_ULPS, _ULPS + 1, len(values)) * unit.astype(np.float64)
        if rows.schema[name].is_float():
            moved.append(pl.Series(name, values + step))
        elif not rows[name].null_count():
            moved.append(pl.Series(name, values + np.rint(step)).cast(rows.schema[name]))
    return rows.with_columns(moved) if moved else rows


def _usual_sizes(rows: pl.DataFrame, inputs: tuple[Input, ...]) -> dict[str, float]:
    """The median of the absolute values of each column of single numbers; 0 where it has none."""
    import numpy as np

    kinds = (DType.FLOAT32, DType.FLOAT64, DType.INT64)
    names = [item.name for item in inputs if item.dtype in kinds and not item.shape]
    columns = {name: np.abs(rows[name].to_numpy().astype(np.float64)) for name in names}
    return {
        name: float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else 0.0
        for name, values in columns.items()
    }


def _refusal(parity: Parity, wrong: int, worst: int, rows: pl.DataFrame, expected: Outputs, found: Outputs) -> Invalid:
    shown = ", ".join(f"{name}={_short(value)}" for name, value in rows.row(worst, named=True).items())
    wanted = ", ".join(f"{name}={_plain(values[worst])}" for name, values in expected.items())
    got = ", ".join(f"{name}={_plain(found[name][worst])}" for name in expected)
    fact = (
        f"{wrong} of {parity.rows} sample rows differ by more than {parity.tolerance:g}"
        if wrong
        else f"{parity.edge_rows} of {parity.rows} sample rows sit on the edge of a split"
    )
    return Invalid(
        f"the converted model is not the original: {fact} (largest difference {parity.max_abs:g}); "
        f"worst row {worst}: [{shown}] original gives {wanted}; converted gives {got}",
        next_step="bring inputs into a range that float32 holds, or fill missing strings before training; "
        "a larger `tolerance` accepts the difference",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _plain(value: Any) -> str:
    listed = value.tolist() if hasattr(value, "tolist") else value
    return str(listed)
