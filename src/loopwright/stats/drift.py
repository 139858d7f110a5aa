"""Has a column's distribution moved, and by how much? Tests with effect sizes, from sketches alone.

With enough rows every difference is significant, and with few rows none is: so a result carries a p-value and an effect
size, and only both together call it drift.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Invalid
from loopwright.stats.bins import BinnedColumn
from loopwright.stats.sketches import ColumnKind, ColumnSketch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_PSI_BINS = 10
_PSI_CATEGORIES = 20
_LEAST_EXPECTED = 5.0


class Effect(msgspec.Struct, frozen=True):
    """How large a difference is, on a scale that does not grow with the number of rows."""

    name: str
    value: float


class DriftResult(msgspec.Struct, frozen=True):
    """One column compared with its reference.

    `test` is `ks` for numbers and `chi2` for categories. `effect` is the population stability index: by custom, below
    0.1 is no shift to speak of and above 0.25 is a large one. `js` is the Jensen-Shannon divergence in bits, 0 to 1.
    `n_reference` and `n_current` count rows, nulls included. The shares are of nulls.
    """

    test: str
    statistic: float
    p_value: float
    effect: Effect
    n_reference: int
    n_current: int
    js: float
    nulls_reference: float
    nulls_current: float


def compare(reference: ColumnSketch, current: ColumnSketch | BinnedColumn) -> DriftResult:
    """Compare a column with its reference.

    Numbers: the two-sample Kolmogorov-Smirnov test over the reference's quantiles. The largest gap at 64 places
    is at most the true one, and what the sketches may be off is taken from it, so the p-value errs upwards only.
    Categories: Pearson's chi-squared test of homogeneity, rare ones joined. Where there are nulls, their share is
    tested as well and the smaller of the two p-values is doubled.

    Raises:
        Invalid: one column is numeric and the other categorical.
    """
    if reference.kind is not current.kind:
        raise Invalid(f"a {reference.kind} reference cannot be compared with a {current.kind} column")
    n_reference, n_current = reference.count + reference.nulls, current.count + current.nulls
    counts_reference, counts_current = _aligned(reference, current)
    nulls = (reference.nulls, current.nulls)
    numeric = reference.kind is ColumnKind.NUMERIC
    if numeric:
        slack = reference.rank_error + (current.rank_error if isinstance(current, ColumnSketch) else 0.0)
        statistic, p_value = _kolmogorov_smirnov(counts_reference, counts_current, slack)
    else:
        statistic, p_value = _chi_squared(counts_reference, counts_current)
    if any(nulls):
        shares = [[n_reference - nulls[0], nulls[0]], [n_current - nulls[1], nulls[1]]]
        p_value = min(1.0, 2 * min(p_value, _chi_squared(shares[0], shares[1])[1]))
    coarse = _coarse(counts_reference, counts_current, _PSI_BINS if numeric else _PSI_CATEGORIES, ordered=numeric)
    p, q = (_with_nulls(part, lost, any(nulls)) for part, lost in zip(coarse, nulls, strict=True))
    return DriftResult(
        test="ks" if numeric else "chi2",
        statistic=statistic,
        p_value=p_value,
        effect=Effect("psi", population_stability(p, q)),
        n_reference=n_reference,
        n_current=n_current,
        js=jensen_shannon(p, q),
        nulls_reference=nulls[0] / n_reference if n_reference else 0.0,
        nulls_current=nulls[1] / n_current if n_current else 0.0,
    )


def population_stability(reference: ArrayLike, current: ArrayLike) -> float:
    """The population stability index of two histograms over the same bins: sum of (q - p) log(q / p), which is
    Jeffreys' divergence (Yurdakul, "Statistical properties of the population stability index", 2018). Half a row is
    added to each bin, so that an empty one does not make it infinite. 0 where a histogram is empty."""
    import numpy as np

    p, q = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if p.sum() <= 0 or q.sum() <= 0:
        return 0.0
    p, q = (p + 0.5) / (p + 0.5).sum(), (q + 0.5) / (q + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> float:
    """The Jensen-Shannon divergence of two histograms over the same bins, in bits: 0 alike, 1 disjoint (Lin, IEEE
    Transactions on Information Theory 1991). 0 where a histogram is empty."""
    import numpy as np

    p, q = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if p.sum() <= 0 or q.sum() <= 0:
        return 0.0
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return max(0.0, 0.5 * (_relative_entropy(p, middle) + _relative_entropy(q, middle)))


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    import numpy as np

    seen = p > 0
    return float((p[seen] * np.log2(p[seen] / q[seen])).sum())


def _aligned(
    reference: ColumnSketch, current: ColumnSketch | BinnedColumn
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both columns' counts over the same bins."""
    import numpy as np

    if isinstance(current, BinnedColumn):
        return _counts(reference, current), current.counts.astype(np.float64)
    bins = BinnedColumn.like(reference)
    return _counts(reference, bins), _counts(current, bins)


def _counts(column: ColumnSketch, bins: BinnedColumn) -> NDArray[np.float64]:
    import numpy as np

    if bins.is_numeric:
        return np.diff(np.concatenate([[0.0], column.ranks(bins.edges), [1.0]])) * column.count
    known = dict(column.top())
    counts = np.array([float(known.get(value, 0)) for value in bins.values])
    return np.append(counts, max(0.0, column.count - counts.sum()))


def _kolmogorov_smirnov(p: NDArray[np.float64], q: NDArray[np.float64], slack: float) -> tuple[float, float]:
    """The largest gap between two distribution functions and its asymptotic p-value (Smirnov 1948), with the small-
    sample correction of Stephens (JRSS B 1970)."""
    import numpy as np
    from scipy.special import kolmogorov

    n, m = float(p.sum()), float(q.sum())
    if n < 1 or m < 1:
        return 0.0, 1.0
    gap = float(np.abs(np.cumsum(p) / n - np.cumsum(q) / m).max())
    scale = math.sqrt(n * m / (n + m))
    return gap, float(kolmogorov(max(0.0, gap - slack) * (scale + 0.12 + 0.11 / scale)))


def _chi_squared(reference: ArrayLike, current: ArrayLike) -> tuple[float, float]:
    """Pearson's test that two histograms come from one distribution (Philosophical Magazine 1900). Bins in which either
    side expects fewer than 5 are joined (Cochran, Biometrics 1954)."""
    import numpy as np
    from scipy.special import chdtrc

    table = np.array([reference, current], dtype=np.float64)
    n, m = table.sum(axis=1)
    if n < 1 or m < 1:
        return 0.0, 1.0
    both = table.sum(axis=0)
    rare = both * min(n, m) / (n + m) < _LEAST_EXPECTED
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 0.0, 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float((np.square(table - expected) / expected).sum())
    return statistic, float(chdtrc(table.shape[1] - 1, statistic))


def _coarse(
    p: NDArray[np.float64], q: NDArray[np.float64], limit: int, *, ordered: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both histograms over at most about `limit` bins: neighbours joined to equal shares of the reference, or the
    rarest categories joined."""
    import numpy as np

    if len(p) <= limit or p.sum() <= 0:
        return p, q
    if ordered:
        before = np.cumsum(p) - p
        groups = np.minimum(((before + p / 2) / p.sum() * limit).astype(np.int64), limit - 1)
    else:
        groups = np.full(len(p), limit - 1)
        most = np.argsort(-p[:-1], kind="stable")[: limit - 1]
        groups[most] = np.arange(len(most))
    _, groups = np.unique(groups, return_inverse=True)
    joined = (np.bincount(groups, weights=part).astype(np.float64) for part in (p, q))
    return next(joined), next(joined)


def _with_nulls(counts: NDArray[np.float64], nulls: int, shown: bool) -> NDArray[np.float64]:
    import numpy as np

    return np.append(counts, float(nulls)) if shown else counts
