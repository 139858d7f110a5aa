"""The exported graph against the bundle's own: differences, accuracy, time, and the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.serve.edge.model import Accuracy, Budget, Comparison, Latency, Verdict

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Outputs = Mapping[str, Array]

LABEL = "label"
_WARM_UP = 50
_CALLS = 1_000
_SECONDS = 3.0


def compare(own: Outputs, exported: Outputs, source: str, tolerance: float) -> Comparison:
    """The answers of two graphs to the same rows, row by row.

    Args:
        own, exported: an array per output, with a row per row.
        source: where the rows come from.
        tolerance: numbers agree where |difference| <= tolerance + tolerance * |own|.
    """
    import numpy as np

    count = len(next(iter(own.values())))
    absolute, relative, close = np.zeros(count), np.zeros(count), np.ones(count, dtype=bool)
    for name, wanted in own.items():
        if name == LABEL or wanted.dtype.kind not in "fiub":
            close &= _same(wanted, exported[name])
            continue
        left = wanted.reshape(count, -1).astype(np.float64)
        right = exported[name].reshape(count, -1).astype(np.float64)
        gap, scaled, same = _gaps(left, right)
        absolute = np.maximum(absolute, gap.max(axis=1, initial=0.0))
        relative = np.maximum(relative, scaled.max(axis=1, initial=0.0))
        if LABEL not in own:
            close &= (same | (gap <= tolerance + tolerance * np.abs(left))).all(axis=1)
    return Comparison(
        rows=count,
        source=source,
        tolerance=tolerance,
        max_abs=_finite(absolute.max()),
        max_rel=_finite(relative.max()),
        agreement=float(close.mean()),
        worst_row=int(np.argmax(absolute + ~close)),
    )


def _gaps(left: Array, right: Array) -> tuple[Array, Array, Array]:
    """The absolute and relative differences of numbers, and where there is none; two missing numbers are the same, and
    a missing one is infinitely far from any other."""
    import numpy as np

    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.where(same, 0.0, np.abs(left - right))
        gap = np.where(np.isnan(gap), np.inf, gap)
        scaled = np.where(same, 0.0, gap / np.maximum(np.nan_to_num(np.abs(left)), np.finfo(np.float32).tiny))
    return gap, scaled, same


def _finite(number: float) -> float:
    """JSON has no infinity: the largest number stands for it."""
    return min(float(number), 1.7976931348623157e308)


def _same(left: Array, right: Array) -> Array:
    import numpy as np

    return np.asarray((_text(left) == _text(right)).reshape(len(left), -1).all(axis=1))


def _text(labels: Array) -> Array:
    import numpy as np

    whole = labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and bool(np.isfinite(labels).all()))
    return labels.astype(np.int64).astype(str) if whole else labels.astype(str)


def accuracy(own: Outputs, exported: Outputs, truth: Array, target: str) -> Accuracy:
    """How often both graphs give the right label, or how far off their first number is on average.

    Raises:
        Invalid: the truth is missing in a row, or is no number where the model gives numbers.
    """
    import numpy as np

    if LABEL in own:
        shares = [float(_same(answers[LABEL], truth).mean()) for answers in (own, exported)]
        return Accuracy("accuracy", target, *shares)
    name = next((name for name, values in own.items() if values.ndim == 1 and values.dtype.kind in "fiu"), None)
    if name is None or truth.dtype.kind not in "fiub" or not np.isfinite(truth.astype(np.float64)).all():
        raise Invalid(
            f"the column {target!r} cannot be compared with the answers: it must hold a number in every row, and the "
            "model must give one",
            next_step="leave --target out, or name another column",
        )
    wanted = truth.astype(np.float64)
    errors = [float(np.abs(answers[name].astype(np.float64) - wanted).mean()) for answers in (own, exported)]
    return Accuracy("mean absolute error", target, *errors)


def latency(predict: Callable[[Any], object], rows: Sequence[Mapping[str, Any]]) -> Latency:
    """The time of calls with one row each, the rows in turn; at most 1,000 calls or 3 s, after 50 that do not count."""
    import numpy as np

    for number in range(_WARM_UP):
        predict([rows[number % len(rows)]])
    times: list[int] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _CALLS and (time.perf_counter() < end or not times):
        row = [rows[len(times) % len(rows)]]
        start = time.perf_counter_ns()
        predict(row)
        times.append(time.perf_counter_ns() - start)
    p50, p99 = (float(value) / 1e6 for value in np.percentile(times, [50, 99]))
    return Latency(len(times), round(p50, 4), round(p99, 4))


def judge(budget: Budget, size_bytes: int, timed: Latency, comparison: Comparison) -> tuple[Verdict, ...]:
    """What the budget says of an export, a line per limit."""
    found = [Verdict("agreement", budget.min_agreement, comparison.agreement, _at_least(comparison, budget))]
    if budget.max_mb is not None:
        size = size_bytes / 1e6
        found.append(Verdict("size of the graph, MB", budget.max_mb, round(size, 6), size <= budget.max_mb))
    if budget.max_ms is not None:
        found.append(Verdict("p99 of one row, ms", budget.max_ms, timed.p99_ms, timed.p99_ms <= budget.max_ms))
    return tuple(found)


def _at_least(comparison: Comparison, budget: Budget) -> bool:
    return comparison.agreement >= budget.min_agreement
