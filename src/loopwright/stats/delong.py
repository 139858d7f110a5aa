"""Intervals of the area under the ROC curve.

DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
curves" (Biometrics 1988), computed by ranks as in Sun & Xu (IEEE Signal Processing Letters 2014): O(n log n).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid
from loopwright.stats.intervals import Interval, normal_quantile
from loopwright.stats.metrics import midranks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


def auc_interval(y: ArrayLike, score: ArrayLike, alpha: float = 0.05) -> Interval:
    """DeLong's interval of the AUC, taken on the logit scale so that it stays within 0 and 1.

    Args:
        y: the truth, 0 or 1.
        score: higher means more likely 1.
        alpha: one minus the level.

    Raises:
        Invalid: fewer than two rows of a class.
    """
    areas, covariance, n = _areas(y, [score])
    area, variance = float(areas[0]), float(covariance[0][0])
    if not 0 < area < 1 or variance <= 0:
        return _degenerate(y, area, alpha, n)
    logit = math.log(area / (1 - area))
    radius = normal_quantile(1 - alpha / 2) * math.sqrt(variance) / (area * (1 - area))
    return Interval(area, _expit(logit - radius), _expit(logit + radius), 1 - alpha, n, "delong_logit")


def auc_difference(y: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, alpha: float = 0.05) -> Interval:
    """DeLong's interval of AUC b minus AUC a, for two models that scored the same rows.

    Raises:
        Invalid: fewer than two rows of a class, or lengths that differ.
    """
    areas, covariance, n = _areas(y, [score_a, score_b])
    gap = float(areas[1] - areas[0])
    variance = float(covariance[0][0] + covariance[1][1] - 2 * covariance[0][1])
    radius = normal_quantile(1 - alpha / 2) * math.sqrt(max(0.0, variance))
    return Interval(gap, gap - radius, gap + radius, 1 - alpha, n, "delong_paired")


def _areas(y: ArrayLike, scores: list[ArrayLike]) -> tuple[NDArray[np.float64], NDArray[Any], int]:
    """The areas, their covariance matrix and the number of rows."""
    import numpy as np

    hit = np.asarray(y) > 0
    positives, negatives = int(hit.sum()), int((~hit).sum())
    if positives < 2 or negatives < 2:
        raise Invalid(
            f"an interval of the AUC needs 2 rows of each class; there are {positives} and {negatives}",
            next_step="wait for more labels",
        )
    placed_positive, placed_negative = [], []
    for score in scores:
        values = np.asarray(score, dtype=np.float64)
        if values.shape != hit.shape:
            raise Invalid(f"the truth has shape {hit.shape} and the score {values.shape}")
        ranks = midranks(values)
        placed_positive.append((ranks[hit] - midranks(values[hit])) / negatives)
        placed_negative.append(1.0 - (ranks[~hit] - midranks(values[~hit])) / positives)
    areas = np.array([placement.mean() for placement in placed_positive])
    covariance = np.atleast_2d(np.cov(placed_positive)) / positives + np.atleast_2d(np.cov(placed_negative)) / negatives
    return areas, covariance, len(hit)


def _degenerate(y: ArrayLike, area: float, alpha: float, n: int) -> Interval:
    """Perfect separation leaves no variance to estimate. With m rows in the rarer class, an area further than
    1 - alpha^(1/m) from the end would have shown an inversion with probability 1 - alpha."""
    import numpy as np

    hit = int((np.asarray(y) > 0).sum())
    slack = 1.0 - alpha ** (1.0 / min(hit, n - hit))
    return Interval(area, max(0.0, area - slack), min(1.0, area + slack), 1 - alpha, n, "delong_degenerate")


def _expit(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
