"""Versions scored on the same hold-out rows: the fairest comparison, since luck in the rows hits both alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid
from loopwright.models import Task
from loopwright.stats import (
    Interval,
    Sufficient,
    auc_difference,
    auc_interval,
    classification_metrics,
    losses,
    mean_interval,
    multiclass_metrics,
    paired_bootstrap,
    paired_mean_difference,
    regression_metrics,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from loopwright.models import BundleManifest

    Array = np.ndarray[Any, Any]

_TINY = 1e-15
_REPLICATES = 400


class Scored(msgspec.Struct, frozen=True):
    """What a version answered for the rows of a hold-out, and the truth: arrays of the same length.

    `truth` is 0 or 1 for a binary task, the index of the class for a multiclass one, else the value itself.
    """

    task: Task
    truth: Any
    output: Any

    def losses(self) -> Array:
        """The loss of each row, between 0 and 1 for classifiers."""
        return losses(self.task.value, self.truth, self.output)


def score(manifest: BundleManifest, outputs: pl.DataFrame, target: pl.Series) -> Scored:
    """Bring outputs and truth into the form that metrics take.

    Raises:
        Invalid: a truth is not one of the model's classes, or the task has no metrics.
    """
    import numpy as np

    if manifest.task is Task.REGRESSION:
        return Scored(manifest.task, target.cast(float).to_numpy(), outputs["value"].to_numpy())
    if manifest.task is Task.OTHER:
        raise Invalid("a model of task 'other' cannot be scored", next_step="build its bundle with a task")
    names = {str(name): index for index, name in enumerate(manifest.classes)}
    indexes = [names.get(_class_name(value, names)) for value in target.to_list()]
    if None in indexes:
        strange = target.to_list()[indexes.index(None)]
        raise Invalid(f"the hold-out's target holds {strange!r}, which is none of the classes {list(names)}")
    truth = np.asarray(indexes, dtype=np.int64)
    if manifest.task is Task.BINARY:
        return Scored(manifest.task, truth, outputs["probability"].to_numpy().astype(np.float64))
    return Scored(manifest.task, truth, np.asarray(outputs["probabilities"].to_list(), dtype=np.float64))


def measure(metric: str, scored: Scored, alpha: float) -> Interval | None:
    """The metric with its interval; None if there is no such metric for the task."""
    if metric == "auc" and scored.task is Task.BINARY:
        return auc_interval(scored.truth, scored.output, alpha)
    rows = _row_values(metric, scored)
    if rows is not None:
        return mean_interval(Sufficient.of(rows), alpha)
    whole = _whole_metric(metric, scored.task)
    if whole is None:
        return None
    # The interval of one version is that of its difference from a version that scores nothing.
    nothing = scored.output * float("nan")
    return paired_bootstrap(_zero_for(whole), scored.truth, nothing, scored.output, alpha=alpha, replicates=_REPLICATES)


def compare(metric: str, candidate: Scored, reference: Scored, alpha: float) -> Interval | None:
    """Candidate minus reference over the same rows; None if there is no such metric for the task."""
    if metric == "auc" and candidate.task is Task.BINARY:
        return auc_difference(candidate.truth, reference.output, candidate.output, alpha)
    rows, others = _row_values(metric, candidate), _row_values(metric, reference)
    if rows is not None and others is not None:
        return paired_mean_difference(others, rows, alpha)
    whole = _whole_metric(metric, candidate.task)
    if whole is None:
        return None
    return paired_bootstrap(
        whole, candidate.truth, reference.output, candidate.output, alpha=alpha, replicates=_REPLICATES
    )


def compare_rows(candidate: Array, reference: Array, alpha: float) -> Interval:
    """The mean difference of two versions' losses over the same rows, candidate minus reference."""
    return paired_mean_difference(reference, candidate, alpha)


def _class_name(value: Any, names: dict[str, int]) -> str:
    """How the model names a truth: a bool may stand for 0 and 1, a whole float for its integer."""
    text = str(value)
    if text in names or value is None:
        return text
    return str(int(value)) if isinstance(value, bool | float) else text


def _row_values(metric: str, scored: Scored) -> Array | None:
    """The values whose mean is the metric, where it is one."""
    import numpy as np

    if scored.task is Task.REGRESSION:
        error: Array = scored.output - scored.truth
        return {"mae": np.abs(error), "mse": error * error, "bias": error}.get(metric)
    if metric in ("brier", "loss"):
        return scored.losses()
    binary = scored.task is Task.BINARY
    chances = np.stack([1 - scored.output, scored.output], axis=1) if binary else scored.output
    if metric == "log_loss":
        own = chances[np.arange(len(scored.truth)), scored.truth]
        logs: Array = -np.log(np.clip(own, _TINY, 1.0))
        return logs
    guess = (scored.output >= 0.5).astype(np.int64) if binary else chances.argmax(axis=1)
    hits = (guess == scored.truth).astype(np.float64)
    return {"accuracy": hits, "error_rate": 1 - hits}.get(metric)


def _whole_metric(metric: str, task: Task) -> Callable[[Array, Array], float] | None:
    """A metric that is no mean over rows."""
    families: dict[Task, Callable[[Any, Any], dict[str, float]]] = {
        Task.BINARY: classification_metrics,
        Task.MULTICLASS: multiclass_metrics,
        Task.REGRESSION: regression_metrics,
    }
    known = {
        Task.BINARY: {"precision", "recall", "f1", "ece"},
        Task.MULTICLASS: {"f1"},
        Task.REGRESSION: {"rmse", "median_ae", "r2"},
    }
    family = families.get(task)
    if family is None or metric not in known[task]:
        return None
    return lambda truth, output: family(truth, output).get(metric, float("nan"))


def _zero_for(metric: Callable[[Array, Array], float]) -> Callable[[Array, Array], float]:
    import numpy as np

    return lambda truth, output: 0.0 if np.isnan(output).all() else metric(truth, output)
