"""Intervals for one look at the data. For watching as data come, see `sequential`."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid
from loopwright.stats.moments import Sufficient

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Interval(msgspec.Struct, frozen=True):
    """An estimate with the interval that covers the truth with probability `level`."""

    estimate: float
    lower: float
    upper: float
    level: float
    n: int
    method: str

    def excludes(self, value: float) -> bool:
        """Whether the interval rules `value` out."""
        return value < self.lower or value > self.upper


def normal_quantile(probability: float) -> float:
    """The quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def wilson(successes: int, n: int, alpha: float = 0.05) -> Interval:
    """The interval of a proportion (Wilson, JASA 1927).

    Raises:
        Invalid: n is below 1, or successes outside 0 to n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise Invalid(f"{successes} successes out of {n} are no proportion")
    z = normal_quantile(1 - alpha / 2)
    share, factor = successes / n, z * z / n
    middle = (share + factor / 2) / (1 + factor)
    radius = z * math.sqrt(share * (1 - share) / n + factor / (4 * n)) / (1 + factor)
    lower = 0.0 if successes == 0 else max(0.0, middle - radius)
    upper = 1.0 if successes == n else min(1.0, middle + radius)
    return Interval(share, lower, upper, 1 - alpha, n, "wilson")


def mean_interval(sample: Sufficient, alpha: float = 0.05) -> Interval:
    """Student's interval of a mean (Biometrika 1908).

    Raises:
        Invalid: fewer than two values.
    """
    if sample.n < 2:
        raise Invalid(f"an interval of a mean needs 2 values; there are {sample.n}")
    radius = _student(1 - alpha / 2, sample.n - 1) * math.sqrt(sample.variance / sample.n)
    return Interval(sample.mean, sample.mean - radius, sample.mean + radius, 1 - alpha, sample.n, "student")


def difference_interval(a: Sufficient, b: Sufficient, alpha: float = 0.05) -> Interval:
    """Welch's interval of mean b minus mean a, for independent samples (Biometrika 1947).

    Raises:
        Invalid: fewer than two values in a sample.
    """
    if a.n < 2 or b.n < 2:
        raise Invalid(f"an interval of a difference needs 2 values on each side; there are {a.n} and {b.n}")
    part_a, part_b = a.variance / a.n, b.variance / b.n
    total = part_a + part_b
    freedom = total**2 / (part_a**2 / (a.n - 1) + part_b**2 / (b.n - 1)) if total > 0 else a.n + b.n - 2
    radius = _student(1 - alpha / 2, freedom) * math.sqrt(total)
    gap = b.mean - a.mean
    return Interval(gap, gap - radius, gap + radius, 1 - alpha, a.n + b.n, "welch")


def proportion_difference(a: Sufficient, b: Sufficient, alpha: float = 0.05) -> Interval:
    """Newcombe's hybrid score interval of rate b minus rate a (Statistics in Medicine 1998, method 10).

    Raises:
        Invalid: an empty sample.
    """
    first, second = wilson(round(a.total), a.n, alpha), wilson(round(b.total), b.n, alpha)
    gap = second.estimate - first.estimate
    down = math.hypot(second.estimate - second.lower, first.upper - first.estimate)
    up = math.hypot(second.upper - second.estimate, first.estimate - first.lower)
    return Interval(gap, max(-1.0, gap - down), min(1.0, gap + up), 1 - alpha, a.n + b.n, "newcombe")


def paired_mean_difference(a: ArrayLike, b: ArrayLike, alpha: float = 0.05) -> Interval:
    """Student's interval of the mean of b - a over the same rows: the sharpest way to compare two models' losses.

    Raises:
        Invalid: lengths that differ, or fewer than two rows.
    """
    import numpy as np

    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise Invalid(f"paired samples have shapes {first.shape} and {second.shape}")
    found = mean_interval(Sufficient.of(second - first), alpha)
    return msgspec.structs.replace(found, method="paired_student")


def paired_bootstrap(
    metric: Callable[[NDArray[Any], NDArray[Any]], float],
    y: ArrayLike,
    output_a: ArrayLike,
    output_b: ArrayLike,
    *,
    alpha: float = 0.05,
    replicates: int = 1000,
    seed: int = 0,
) -> Interval:
    """The percentile interval of metric(y, output_b) - metric(y, output_a), by drawing the same rows for both
    (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). Draws on which the metric is not
    defined are left out.

    Args:
        metric: takes the truth and an output, gives a number.
        y, output_a, output_b: rows in the same order.
        alpha: one minus the level.
        replicates: how many draws.
        seed: of the draws, so that the answer can be had again.

    Raises:
        Invalid: lengths that differ, or fewer than two rows.
    """
    import numpy as np

    truth, first, second = np.asarray(y), np.asarray(output_a), np.asarray(output_b)
    if not len(truth) == len(first) == len(second) or len(truth) < 2:
        raise Invalid(f"paired samples have {len(truth)}, {len(first)} and {len(second)} rows")
    random = np.random.default_rng(seed)
    gaps = np.empty(replicates)
    for place in range(replicates):
        rows = random.integers(0, len(truth), len(truth))
        gaps[place] = metric(truth[rows], second[rows]) - metric(truth[rows], first[rows])
    lower, upper = np.nanquantile(gaps, [alpha / 2, 1 - alpha / 2])
    estimate = metric(truth, second) - metric(truth, first)
    return Interval(estimate, float(lower), float(upper), 1 - alpha, len(truth), "paired_bootstrap")


def _student(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
