"""Metrics of predictions against the truth, and losses of single rows that add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_TINY = 1e-15


def classification_metrics(y: ArrayLike, p: ArrayLike, *, threshold: float = 0.5) -> dict[str, float]:
    """Metrics of a binary classifier.

    Args:
        y: the truth, 0 or 1 (or bool), shape (n,).
        p: the probability of 1, shape (n,).
        threshold: from this probability on a row counts as predicted 1.

    Returns:
        auc (left out where only one class occurs), log_loss (nats), brier, accuracy, precision, recall, f1 (0 where
        undefined), ece (expected calibration error, 10 bins of equal width; Naeini, Cooper & Hauskrecht, AAAI 2015),
        positive_rate (of the truth), rows.

    Raises:
        Invalid: no rows, lengths that differ, a truth beside 0 and 1, a probability outside [0, 1].
    """
    import numpy as np

    truth, chance = _binary(y, p)
    guess = chance >= threshold
    hit = truth > 0
    true_positive, predicted, actual = int((guess & hit).sum()), int(guess.sum()), int(hit.sum())
    clipped = np.clip(chance, _TINY, 1 - _TINY)
    found = {
        "log_loss": float(-np.mean(np.where(hit, np.log(clipped), np.log1p(-clipped)))),
        "brier": float(np.mean(np.square(truth - chance))),
        "accuracy": float(np.mean(guess == hit)),
        "precision": true_positive / predicted if predicted else 0.0,
        "recall": true_positive / actual if actual else 0.0,
        "f1": 2 * true_positive / (predicted + actual) if predicted + actual else 0.0,
        "ece": _calibration_error(truth, chance),
        "positive_rate": actual / len(truth),
        "rows": float(len(truth)),
    }
    if 0 < actual < len(truth):
        found = {"auc": auc(truth, chance), **found}
    return found


def multiclass_metrics(y: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Metrics of a classifier of several classes.

    Args:
        y: the index of the true class, shape (n,).
        probabilities: shape (n, classes).

    Returns:
        accuracy, log_loss (nats), brier (summed over classes and halved, so that it lies in [0, 1]), f1 (macro), rows.

    Raises:
        Invalid: no rows, shapes that do not fit, or a class index out of range.
    """
    import numpy as np

    truth, chance = _classes(y, probabilities)
    guess = chance.argmax(axis=1)
    own = np.clip(chance[np.arange(len(truth)), truth], _TINY, 1.0)
    scores = []
    for label in np.unique(np.concatenate([truth, guess])):
        both = int(((guess == label) & (truth == label)).sum())
        scores.append(2 * both / (int((guess == label).sum()) + int((truth == label).sum())))
    return {
        "accuracy": float(np.mean(guess == truth)),
        "log_loss": float(-np.log(own).mean()),
        "brier": float(losses("multiclass", truth, chance).mean()),
        "f1": float(np.mean(scores)),
        "rows": float(len(truth)),
    }


def regression_metrics(y: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Metrics of a regression: mae, rmse, median_ae, bias (mean of predicted minus true), r2 (left out where the truth
    does not vary), rows.

    Raises:
        Invalid: no rows, lengths that differ, or a value that is not finite.
    """
    import numpy as np

    truth, guess = _pair(y, predicted)
    error = guess - truth
    found = {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "median_ae": float(np.median(np.abs(error))),
        "bias": float(error.mean()),
        "rows": float(len(truth)),
    }
    spread = float(np.square(truth - truth.mean()).sum())
    if spread > 0:
        found["r2"] = 1.0 - float(np.square(error).sum()) / spread
    return found


def losses(task: str, y: ArrayLike, output: ArrayLike, *, scale: float | None = None) -> NDArray[np.float64]:
    """The loss of each row: what arms are compared by, since it adds up and, for all but an unscaled regression, is
    bounded in [0, 1].

    Args:
        task: `binary`: (y - p)², Brier's score (Monthly Weather Review 1950); `multiclass`: half the squared distance
            of the probabilities from the truth; `regression`: |y - output| / scale, at most 1, or |y - output| without
            a scale; `other`: 0 where output equals y, else 1.
        y: the truth, shape (n,).
        output: shape (n,), or (n, classes) for `multiclass`.
        scale: the error that counts as a total loss, in the target's unit.

    Raises:
        Invalid: an unknown task, shapes that do not fit, values out of range, or a scale that is not above 0.
    """
    import numpy as np

    if task == "binary":
        truth, chance = _binary(y, output)
        return (truth - chance) ** 2
    if task == "multiclass":
        labels, chances = _classes(y, output)
        wanted = np.zeros_like(chances)
        wanted[np.arange(len(labels)), labels] = 1.0
        halved: NDArray[np.float64] = 0.5 * np.square(wanted - chances).sum(axis=1)
        return halved
    if task == "regression":
        truth, guess = _pair(y, output)
        if scale is not None and not scale > 0:
            raise Invalid(f"scale {scale:g} of a regression loss is not above 0")
        error: NDArray[np.float64] = np.abs(truth - guess)
        return error if scale is None else np.clip(error / scale, 0.0, 1.0)
    if task == "other":
        wrong: NDArray[np.float64] = (np.asarray(y) != np.asarray(output)).astype(np.float64)
        return wrong
    raise Invalid(f"there is no task {task!r}", next_step="the tasks are binary, multiclass, regression and other")


def auc(y: NDArray[Any], score: NDArray[Any]) -> float:
    """The area under the ROC curve: the chance that a positive row scores above a negative one, ties counted half
    (Mann & Whitney 1947). NaN where only one class occurs."""
    import numpy as np

    hit = np.asarray(y) > 0
    positives, negatives = int(hit.sum()), int((~hit).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = midranks(np.asarray(score, dtype=np.float64))
    return float((ranks[hit].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def midranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    import numpy as np

    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2.0)[places]
    return ranks


def _calibration_error(truth: NDArray[np.float64], chance: NDArray[np.float64], bins: int = 10) -> float:
    import numpy as np

    places = np.minimum((chance * bins).astype(np.int64), bins - 1)
    gap = np.bincount(places, weights=truth - chance, minlength=bins)
    return float(np.abs(gap).sum() / len(truth))


def _pair(y: ArrayLike, output: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np

    truth, guess = np.asarray(y, dtype=np.float64), np.asarray(output, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != guess.shape or not len(truth):
        raise Invalid(f"the truth has shape {truth.shape} and the predictions {guess.shape}; both must be (n,), n > 0")
    if not (np.isfinite(truth).all() and np.isfinite(guess).all()):
        raise Invalid("a truth or a prediction is not a finite number", next_step="drop rows without a label first")
    return truth, guess


def _binary(y: ArrayLike, p: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth, chance = _pair(y, p)
    if not ((truth == 0) | (truth == 1)).all():
        raise Invalid("the truth of a binary task holds values beside 0 and 1", next_step="map the labels to 0 and 1")
    if chance.min() < 0 or chance.max() > 1:
        raise Invalid(f"probabilities run from {chance.min():g} to {chance.max():g}; they must lie in 0 to 1")
    return truth, chance


def _classes(y: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    import numpy as np

    truth, chance = np.asarray(y), np.asarray(probabilities, dtype=np.float64)
    if chance.ndim != 2 or truth.shape != chance.shape[:1] or not len(truth):
        raise Invalid(
            f"the truth has shape {truth.shape} and the probabilities {chance.shape}; need (n,), (n, classes)"
        )
    labels = truth.astype(np.int64)
    if (labels != truth).any() or labels.min() < 0 or labels.max() >= chance.shape[1]:
        raise Invalid(f"a true class is not an index from 0 to {chance.shape[1] - 1}")
    return labels, chance
