"""A metric's repeats: its value fold by fold, or from one repetition to the next, and what intervals follow.

A run says in one of three ways that a metric was taken several times; the first that applies counts:

1. metrics called after the fold: `fold_0/auc`, `auc_fold_0`, `auc/cv3`, `repeat_2/auc`, `split0_test_auc`;
2. the tag `repeats`, which names metrics (`auc, loss`, or `*`) whose steps are folds or repeats, and not time;
3. runs that are parts of it, of the kind `fold` or `repeat`, or with a tag of that name.

Folds share most of their training rows, so their values are not independent and Student's interval would be too short.
For folds the variance is taken as `(1/k + 1/(k-1)) s²` (Nadeau and Bengio, Inference for the Generalization Error,
Machine Learning 52, 2003), for repeats with other seeds as `s²/n`. Differences are taken fold by fold where two runs
have the same folds, else by Welch's interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import msgspec

from loopwright import stats
from loopwright.track.model import MetricInterval, Run

_PART = r"(?P<kind>fold|cv|split|repeat|rep)[_\-]?(?P<number>\d+)"
_BEFORE = re.compile(rf"^{_PART}(?:_test)?[/_.](?P<metric>.+)$", re.IGNORECASE)
_BEHIND = re.compile(rf"^(?P<metric>.+)[/_.]{_PART}$", re.IGNORECASE)
_REPEAT_KINDS = ("repeat", "rep")
TAG = "repeats"
KINDS = ("fold", "repeat")


class Repeats(msgspec.Struct, frozen=True):
    """The finite values of one metric, by fold or repeat."""

    values: dict[str, float]
    folds: bool

    @property
    def interval(self) -> MetricInterval | None:
        """The interval of the mean; None of fewer than two values."""
        if len(self.values) < 2:
            return None
        return _shown(stats.mean_interval(stats.Sufficient.of(list(self.values.values()))), self.folds)


def difference(first: Repeats | None, second: Repeats | None) -> MetricInterval | None:
    """The interval of second minus first; None if either has fewer than two values."""
    if first is None or second is None or min(len(first.values), len(second.values)) < 2:
        return None
    shared = sorted(first.values.keys() & second.values.keys())
    if first.folds == second.folds and len(shared) == len(first.values) == len(second.values):
        pairs = [first.values[key] for key in shared], [second.values[key] for key in shared]
        return _shown(stats.paired_mean_difference(*pairs), first.folds)
    before, after = (stats.Sufficient.of(list(found.values.values())) for found in (first, second))
    return _shown(stats.difference_interval(before, after), first.folds or second.folds)


def _shown(found: stats.Interval, folds: bool) -> MetricInterval:
    if not folds:
        return MetricInterval(found.estimate, found.lower, found.upper, found.n, found.method)
    # (1/k + 1/(k-1)) over 1/k; of a difference of unpaired folds k is half of n.
    k = found.n // 2 if found.method == "welch" else found.n
    wider = math.sqrt(1 + k / (k - 1))
    lower, upper = (found.estimate + wider * (end - found.estimate) for end in (found.lower, found.upper))
    return MetricInterval(found.estimate, lower, upper, found.n, f"{found.method}, corrected for folds")


def named_repeats(metrics: Mapping[str, float]) -> dict[str, Repeats]:
    """The repeats that stand in the names of metrics."""
    found: dict[str, dict[str, float]] = {}
    folds: dict[str, bool] = {}
    for key, value in metrics.items():
        match = _BEFORE.match(key) or _BEHIND.match(key)
        if match:
            metric = match["metric"]
            found.setdefault(metric, {})[match["number"]] = value
            folds[metric] = match["kind"].lower() not in _REPEAT_KINDS
    return {metric: Repeats(values, folds[metric]) for metric, values in found.items() if len(values) > 1}


def tagged_metrics(run: Run) -> list[str]:
    """The metrics whose steps a run declares to be folds or repeats."""
    words = [word.strip() for word in run.tags.get(TAG, "").split(",") if word.strip()]
    return sorted(run.metrics) if words == ["*"] else [word for word in words if word in run.metrics]


def stepped(steps: Iterable[int], values: Iterable[float]) -> Repeats:
    """The repeats that a metric's points are; of several at one step the last counts."""
    kept = {str(step): value for step, value in zip(steps, values, strict=True) if math.isfinite(value)}
    return Repeats(kept, folds=True)


def repeats_of_parts(parts: Iterable[Run]) -> dict[str, Repeats]:
    """The repeats that the parts of a run are."""
    found: dict[str, dict[str, float]] = {}
    folds = True
    for number, part in enumerate(sorted(parts, key=lambda part: part.id)):
        kind = next((kind for kind in KINDS if part.kind == kind or kind in part.tags), "")
        if not kind:
            continue
        folds = folds and kind == "fold"
        for key, value in part.metrics.items():
            found.setdefault(key, {})[part.tags.get(kind, str(number))] = value
    return {key: Repeats(values, folds) for key, values in found.items() if len(values) > 1}
