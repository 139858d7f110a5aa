"""A run against a baseline: intervals of differences from rows, from repeats, or none. Pure functions of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright import stats
from loopwright.core import Invalid
from loopwright.train.model import Answer, MetricComparison

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_REPLICATES = 500
_BOOTSTRAP_SEED = 0


class Evaluation:
    """A model's outputs on known rows: keys that name the rows, the truth, the outputs, all in one order."""

    def __init__(self, task: str, keys: NDArray[Any], truth: NDArray[Any], output: NDArray[np.float64]) -> None:
        self.task, self.keys, self.truth, self.output = task, keys, truth, output

    def metrics(self) -> dict[str, float]:
        """The metrics of the task."""
        return _metrics(self.task, self.truth, self.output)


def compare_metric(
    metric: str,
    run: float,
    baseline: float,
    *,
    rows: tuple[Evaluation, Evaluation] | None,
    repeats: tuple[Mapping[int, float], Mapping[int, float]] | None,
    alpha: float,
) -> MetricComparison:
    """One metric of a run against the baseline's.

    Args:
        rows: the evaluations of run and baseline, if both were kept; they count where they share rows and truth.
        repeats: the metric by fold or repeat of run and baseline, paired where both have one.
        alpha: one minus the level of the interval.
    """
    interval, unit = _row_interval(metric, rows, alpha), "rows"
    if interval is None:
        interval, unit = _repeat_interval(repeats, alpha), "repeats"
    if interval is None:
        return MetricComparison(metric, run, baseline, run - baseline, Answer.UNDECIDED)
    return MetricComparison(
        metric=metric,
        run=run,
        baseline=baseline,
        difference=interval.estimate,
        answer=answer_of(metric, interval),
        lower=interval.lower,
        upper=interval.upper,
        level=interval.level,
        n=interval.n,
        unit=unit,
        method=interval.method,
    )


def answer_of(metric: str, interval: stats.Interval) -> Answer:
    """What an interval of run minus baseline says."""
    if not interval.excludes(0.0):
        return Answer.UNDECIDED
    return Answer.BETTER if (interval.lower > 0) != stats.is_lower_better(metric) else Answer.WORSE


def shared_rows(run: Evaluation, baseline: Evaluation) -> tuple[Evaluation, Evaluation] | None:
    """Both evaluations on the rows that they share, in one order; None if they share none or differ in the truth."""
    import numpy as np

    if run.task != baseline.task:
        return None
    _, mine, theirs = np.intersect1d(run.keys, baseline.keys, assume_unique=True, return_indices=True)
    if len(mine) < 2 or not np.array_equal(run.truth[mine], baseline.truth[theirs]):
        return None
    first = Evaluation(run.task, run.keys[mine], run.truth[mine], run.output[mine])
    second = Evaluation(baseline.task, baseline.keys[theirs], baseline.truth[theirs], baseline.output[theirs])
    return first, second


def _row_interval(metric: str, rows: tuple[Evaluation, Evaluation] | None, alpha: float) -> stats.Interval | None:
    if rows is None:
        return None
    run, baseline = rows
    try:
        if metric == "auc" and run.task == "binary":
            return stats.auc_difference(run.truth, baseline.output, run.output, alpha)
        if metric in ("brier", "mae") and run.task in ("binary", "regression"):
            return stats.paired_mean_difference(_row_losses(metric, baseline), _row_losses(metric, run), alpha)
        if metric not in run.metrics():
            return None
        return stats.paired_bootstrap(
            lambda truth, output: _metrics(run.task, truth, output).get(metric, float("nan")),
            run.truth,
            baseline.output,
            run.output,
            alpha=alpha,
            replicates=_REPLICATES,
            seed=_BOOTSTRAP_SEED,
        )
    except Invalid:
        # Too few rows of a class and the like: no interval, and the answer says so.
        return None


def _repeat_interval(
    repeats: tuple[Mapping[int, float], Mapping[int, float]] | None, alpha: float
) -> stats.Interval | None:
    if repeats is None:
        return None
    run, baseline = repeats
    shared = sorted(run.keys() & baseline.keys())
    if len(shared) < 2:
        return None
    return stats.paired_mean_difference([baseline[step] for step in shared], [run[step] for step in shared], alpha)


def _row_losses(metric: str, evaluation: Evaluation) -> NDArray[np.float64]:
    import numpy as np

    gap = np.asarray(evaluation.output, dtype=np.float64) - np.asarray(evaluation.truth, dtype=np.float64)
    found: NDArray[np.float64] = np.square(gap) if metric == "brier" else np.abs(gap)
    return found


def _metrics(task: str, truth: NDArray[Any], output: NDArray[Any]) -> dict[str, float]:
    if task == "binary":
        return stats.classification_metrics(truth, output)
    if task == "multiclass":
        return stats.multiclass_metrics(truth, output)
    return stats.regression_metrics(truth, output)
