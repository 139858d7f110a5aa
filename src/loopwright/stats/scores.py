"""Performance as sums: what a window of labelled predictions leaves behind, in fixed memory, exactly mergeable.

Means of row losses come from sufficient statistics. The area under the ROC curve of a binary task comes from a
histogram of scores per class: scores in one bin count as ties, and DeLong's variance (Biometrics 1988) is computed over
the bins, so that area and interval are those of the scores rounded to 1/500. A label that is corrected later is taken
out again and put in anew.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, Invalid
from loopwright.stats.intervals import Interval, mean_interval, normal_quantile, wilson
from loopwright.stats.metrics import losses
from loopwright.stats.moments import Sufficient

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_BINS = 500
_TINY = 1e-15
LOWER_IS_BETTER = frozenset({"brier", "log_loss", "mae", "rmse", "ece"})


class ScoreCounts:
    """The performance of one model over some labelled rows.

    Tasks: `binary` (probability of the positive class), `multiclass` (probabilities), `regression` (a number).
    """

    __slots__ = ("counts", "sums", "task")

    def __init__(self, task: str) -> None:
        import numpy as np

        if task not in ("binary", "multiclass", "regression"):
            raise Invalid(f"there is no performance of a task {task!r}", next_step="use binary, multiclass, regression")
        self.task = task
        self.sums: dict[str, Sufficient] = {}
        self.counts: NDArray[np.int64] = np.zeros((2, _BINS if task == "binary" else 0), dtype=np.int64)

    @property
    def n(self) -> int:
        """How many labelled rows."""
        return max((part.n for part in self.sums.values()), default=0)

    def update(self, y: ArrayLike, output: ArrayLike, *, times: int = 1) -> None:
        """Add labelled rows; with `times` = -1, take rows out that were added before.

        Raises:
            Invalid: shapes or values do not fit the task (see `losses`).
        """
        for name, values in self._row_values(y, output).items():
            part = Sufficient.of(values)
            signed = Sufficient(times * part.n, times * part.total, times * part.total_squares)
            self.sums[name] = self.sums.get(name, Sufficient()) + signed
        if self.task == "binary":
            self._count(y, output, times)

    def merge(self, other: ScoreCounts) -> ScoreCounts:
        """The performance over the rows of both.

        Raises:
            Invalid: the tasks differ.
        """
        if other.task != self.task:
            raise Invalid(f"scores of a {self.task} task cannot be merged with those of a {other.task} task")
        merged = ScoreCounts(self.task)
        names = self.sums.keys() | other.sums.keys()
        merged.sums = {name: self.sums.get(name, Sufficient()) + other.sums.get(name, Sufficient()) for name in names}
        merged.counts = self.counts + other.counts
        return merged

    def estimates(self, alpha: float = 0.05) -> dict[str, Interval]:
        """Every metric that has an interval at this number of rows."""
        if self.n < 2:
            return {}
        found = {name: mean_interval(part, alpha) for name, part in self.sums.items() if name != "squared_error"}
        if "squared_error" in self.sums:
            found["rmse"] = _root(mean_interval(self.sums["squared_error"], alpha))
        if "accuracy" in self.sums:
            found["accuracy"] = wilson(round(self.sums["accuracy"].total), self.n, alpha)
        if self.task == "binary":
            found.update(self._ranked(alpha))
        return found

    def to_bytes(self) -> bytes:
        """The counts as bytes."""
        packed = _Packed(self.task, self.sums, self.counts.ravel().tolist())
        return zlib.compress(msgspec.msgpack.encode(packed), level=1)

    @classmethod
    def from_bytes(cls, data: bytes) -> ScoreCounts:
        """The counts that `to_bytes` wrote.

        Raises:
            Corrupt: the bytes are none.
        """
        import numpy as np

        from loopwright.stats.wire import inflate

        try:
            packed = msgspec.msgpack.decode(inflate(data), type=_Packed)
            found = cls(packed.task)
            found.sums = packed.sums
            found.counts = np.array(packed.counts, dtype=np.int64).reshape(found.counts.shape)
        except (zlib.error, msgspec.DecodeError, ValueError, Invalid) as error:
            raise Corrupt(f"score counts of {len(data)} bytes cannot be read: {error}") from None
        return found

    def _row_values(self, y: ArrayLike, output: ArrayLike) -> dict[str, NDArray[np.float64]]:
        import numpy as np

        main = losses(self.task, y, output)
        truth, guess = np.asarray(y, dtype=np.float64), np.asarray(output, dtype=np.float64)
        if self.task == "regression":
            return {"mae": main, "squared_error": np.square(guess - truth), "bias": guess - truth}
        if self.task == "multiclass":
            own = guess[np.arange(len(truth)), truth.astype(np.int64)]
            right = (guess.argmax(axis=1) == truth).astype(np.float64)
        else:
            own = np.where(truth > 0, guess, 1 - guess)
            right = ((guess >= 0.5) == (truth > 0)).astype(np.float64)
        return {"brier": main, "log_loss": -np.log(np.maximum(own, _TINY)), "accuracy": right}

    def _count(self, y: ArrayLike, output: ArrayLike, times: int) -> None:
        import numpy as np

        hit = np.asarray(y) > 0
        places = np.minimum((np.asarray(output, dtype=np.float64) * _BINS).astype(np.int64), _BINS - 1)
        for row, chosen in enumerate((~hit, hit)):
            self.counts[row] += times * np.bincount(places[chosen], minlength=_BINS)

    def _ranked(self, alpha: float) -> dict[str, Interval]:
        negatives, positives = (int(part.sum()) for part in self.counts)
        predicted = int(self.counts[:, _BINS // 2 :].sum())
        true_positive = int(self.counts[1, _BINS // 2 :].sum())
        found = {"positive_rate": wilson(positives, positives + negatives, alpha)}
        if predicted:
            found["precision"] = wilson(true_positive, predicted, alpha)
        if positives:
            found["recall"] = wilson(true_positive, positives, alpha)
        if positives > 1 and negatives > 1:
            found["auc"] = _auc(self.counts, alpha)
        return found


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    task: str
    sums: dict[str, Sufficient]
    counts: list[int]


def _auc(counts: NDArray[np.int64], alpha: float) -> Interval:
    """The area and DeLong's interval, on the logit scale, from scores counted per class."""
    import numpy as np

    negative, positive = counts.astype(np.float64)
    m, n = float(positive.sum()), float(negative.sum())
    above = (np.cumsum(negative) - negative / 2) / n
    below = 1 - (np.cumsum(positive) - positive / 2) / m
    area = float((positive * above).sum() / m)
    spread_positive = float((positive * np.square(above - area)).sum() / (m - 1))
    spread_negative = float((negative * np.square(below - area)).sum() / (n - 1))
    variance = spread_positive / m + spread_negative / n
    rows = int(m + n)
    if not 0 < area < 1 or variance <= 0:
        slack = 1.0 - alpha ** (1.0 / min(m, n))
        return Interval(area, max(0.0, area - slack), min(1.0, area + slack), 1 - alpha, rows, "delong_degenerate")
    radius = normal_quantile(1 - alpha / 2) * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    ends = [1 / (1 + math.exp(-(logit + sign * radius))) for sign in (-1, 1)]
    return Interval(area, ends[0], ends[1], 1 - alpha, rows, "delong_binned")


def _root(squared: Interval) -> Interval:
    low, middle, high = (math.sqrt(max(0.0, end)) for end in (squared.lower, squared.estimate, squared.upper))
    return Interval(middle, low, high, squared.level, squared.n, "root_of_student")


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of a metric is the better one."""
    return metric in LOWER_IS_BETTER


def as_labels(values: Any, classes: tuple[Any, ...]) -> NDArray[np.int64]:
    """Labels as indices into `classes`, compared as they are and then as text; truth values stand for the second and
    the first of two classes. -1 for what is none of them."""
    import numpy as np

    places: dict[Any, int] = {str(label): place for place, label in enumerate(classes)}
    places.update({label: place for place, label in enumerate(classes)})
    if len(classes) == 2:
        places.update({"True": 1, "False": 0, "true": 1, "false": 0} | places)

    def place(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return places.get(value, places.get(str(value), -1))

    return np.array([place(value) for value in values], dtype=np.int64)
