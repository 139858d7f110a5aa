"""How well a fitted estimator answers the rows that it was fitted on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from loopwright.track.autolog.figures import confusion_figure, line_figure
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog
from loopwright.track.autolog.rows import shape_of, spread, take

SCORED_TAG = "loopwright.autolog.scored_rows"
_PROBE_ROWS = 64
_LEAST_ROWS = 1_000
_LEAST_S = 0.5
_SHARE = 0.2
_MAX_CLASSES = 50
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Rows:
    """Training rows: inputs, truth and weights (None where there are none)."""

    inputs: Any
    truth: Any
    weights: Any

    def take(self, numbers: Any) -> Rows:
        """Some of these rows."""
        return Rows(take(self.inputs, numbers), take(self.truth, numbers), take(self.weights, numbers))


def score(log: TrainingLog, estimator: Any, rows: Rows, fit_s: float) -> None:
    """Log the metrics of the estimator's task on its training rows, and figures that cost nothing.

    No more rows are scored than the options say. Of an estimator that answers slowly, no more than take a fifth of the
    time of the fit, or half a second, but a thousand always. A tag says where not all rows were scored.
    """
    total = shape_of(rows.inputs)[0]
    some = _affordable(estimator, rows, total, log.options.score_rows, fit_s)
    if some < total:
        rows = rows.take(spread(total, some))
        log.tags({SCORED_TAG: f"{some} of {total}"})
    if hasattr(estimator, "score") and hasattr(estimator, "predict"):
        with quietly("the training score"):
            weighted = {} if rows.weights is None else {"sample_weight": rows.weights}
            log.metrics({"training_score": estimator.score(rows.inputs, rows.truth, **weighted)})
    with quietly("training metrics"):
        _by_task(log, estimator, rows)


def _affordable(estimator: Any, rows: Rows, total: int, limit: int, fit_s: float) -> int:
    """How many rows may be scored; a few are tried first."""
    wanted = min(total, limit)
    if wanted <= _LEAST_ROWS or not hasattr(estimator, "predict"):
        return wanted
    few = take(rows.inputs, spread(total, _PROBE_ROWS))
    probe_s = min(_seconds(estimator, few) for _ in range(2))
    if probe_s < 0.01:  # of such a time most does not grow with the rows
        return wanted
    affordable = int(_PROBE_ROWS * max(_LEAST_S, _SHARE * fit_s) / probe_s)
    return max(_LEAST_ROWS, min(wanted, affordable))


def _seconds(estimator: Any, inputs: Any) -> float:
    began = time.perf_counter()
    estimator.predict(inputs)
    return time.perf_counter() - began


def _by_task(log: TrainingLog, estimator: Any, rows: Rows) -> None:
    from sklearn.base import is_classifier, is_regressor
    from sklearn.utils.multiclass import type_of_target

    if rows.truth is None or not hasattr(estimator, "predict"):
        return
    if is_classifier(estimator):
        if type_of_target(rows.truth) in ("binary", "multiclass"):
            _classes(log, estimator, rows)
    elif is_regressor(estimator):
        _numbers(log, estimator, rows)


def _numbers(log: TrainingLog, estimator: Any, rows: Rows) -> None:
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    found, weights = estimator.predict(rows.inputs), rows.weights
    squared = float(mean_squared_error(rows.truth, found, sample_weight=weights))
    log.metrics(
        {
            "training_mean_squared_error": squared,
            "training_root_mean_squared_error": squared**0.5,
            "training_mean_absolute_error": mean_absolute_error(rows.truth, found, sample_weight=weights),
            "training_r2_score": r2_score(rows.truth, found, sample_weight=weights),
        }
    )


def _classes(log: TrainingLog, estimator: Any, rows: Rows) -> None:
    import numpy as np
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    truth, found, weights = np.asarray(rows.truth).ravel(), estimator.predict(rows.inputs), rows.weights
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, found, average="weighted", sample_weight=weights, zero_division=0
    )
    log.metrics(
        {
            "training_accuracy_score": accuracy_score(truth, found, sample_weight=weights),
            "training_precision_score": precision,
            "training_recall_score": recall,
            "training_f1_score": f1,
        }
    )
    labels = np.unique(np.concatenate([truth, np.asarray(found).ravel()]))
    if len(labels) <= _MAX_CLASSES:
        counts = confusion_matrix(truth, found, labels=labels).tolist()
        log.figure(confusion_figure(counts, [str(label) for label in labels]), "training_confusion_matrix")
    if hasattr(estimator, "predict_proba"):
        with quietly("training metrics of probabilities"):
            _probabilities(log, estimator, rows, truth)


def _probabilities(log: TrainingLog, estimator: Any, rows: Rows, truth: Any) -> None:
    import numpy as np
    from sklearn.metrics import log_loss, roc_auc_score, roc_curve

    chances, classes, weights = estimator.predict_proba(rows.inputs), estimator.classes_, rows.weights
    log.metrics({"training_log_loss": log_loss(truth, chances, sample_weight=weights, labels=classes)})
    if len(np.unique(truth)) != len(classes) or len(classes) < 2:
        return
    if len(classes) > 2:
        auc = roc_auc_score(truth, chances, average="weighted", sample_weight=weights, multi_class="ovr")
        log.metrics({"training_roc_auc": auc})
        return
    hits = truth == classes[1]
    log.metrics({"training_roc_auc": roc_auc_score(hits, chances[:, 1], sample_weight=weights)})
    false, true, _ = roc_curve(hits, chances[:, 1], sample_weight=weights)
    some = spread(len(false), _CURVE_POINTS)
    names = ("false positive rate", "true positive rate")
    log.figure(line_figure(false[some].tolist(), true[some].tolist(), "ROC on training rows", names), "training_roc")
