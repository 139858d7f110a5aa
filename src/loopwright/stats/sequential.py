"""Always-valid comparison of two arms: look as often as you like, the false-alarm rate holds.

A confidence sequence is an interval for each moment such that, with probability 1 - alpha, all of them hold at once.
So a decision may be taken at the first moment that allows it, and watching on costs nothing.

`MeanDifference` compares means of a bounded loss. Its boundary is the two-sided normal mixture (Robbins 1970; Howard,
Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
2021, eq. 14) with the variance estimated as one goes, which makes it an asymptotic confidence sequence (Waudby-Smith,
Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of
Statistics 2024). The intrinsic time is the precision of the estimated difference: for independent arms the covariance
of the difference at two moments is the variance at the later one, so that it moves as W(u)/u with u = 1/variance,
whatever path the two sample sizes take. Two pseudo-observations at the ends of the range keep the variance away from
zero while few values are there (after Agresti & Caffo, The American Statistician 2000).

`EventDifference` compares rates of rare events without any approximation: each arm gets a beta-binomial confidence
sequence (Ville 1939; Robbins 1970; Howard et al. 2021, section 3), joined by a union bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from loopwright.core import Invalid
from loopwright.stats.moments import Sufficient


class Decision(StrEnum):
    """What a comparison says of the second arm's loss, measured against the first's."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


class SequentialVerdict(msgspec.Struct, frozen=True):
    """What is known of the difference (second arm minus first) at this moment.

    `lower` and `upper` bound the difference; with probability 1 - `alpha` they do so at every moment of the watch.
    """

    n_a: int
    n_b: int
    estimate: float
    lower: float
    upper: float
    alpha: float
    decided: Decision
    method: str = "mean_difference"

    def not_worse_by(self, margin: float) -> bool:
        """Whether a rise of the second arm's loss by `margin` or more is ruled out."""
        return self.upper < margin

    def worse_by(self, margin: float) -> bool:
        """Whether the second arm's loss is shown to be higher by more than `margin`."""
        return self.lower > margin


class MeanDifference(msgspec.Struct, frozen=True):
    """Compares the means of a bounded loss between two arms. Lower is better.

    Args:
        alpha: the chance that any of the intervals misses the truth, over the whole watch.
        focus: the difference that matters. The boundary is tightest when the interval's half-width is about this; it is
            valid for any value.
        margin: differences within ± margin count as equivalent; 0 means that equivalence is never declared.
        low, high: the range of the loss.
        min_rows: below this number per arm the interval is left infinite.

    Raises:
        Invalid: alpha is not between 0 and 1, focus is not above 0, or the range is empty.
    """

    alpha: float = 0.05
    focus: float = 0.02
    margin: float = 0.0
    low: float = 0.0
    high: float = 1.0
    min_rows: int = 20

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        if self.focus <= 0 or self.high <= self.low or self.margin < 0:
            raise Invalid(
                f"focus {self.focus:g}, margin {self.margin:g} and range {self.low:g} to {self.high:g} do not fit",
                next_step="give focus > 0, margin >= 0 and low < high",
            )

    def judge(self, a: Sufficient, b: Sufficient) -> SequentialVerdict:
        """The verdict on arm `b` against arm `a`, from all that was seen of both so far."""
        return self.judge_strata([(a, b)])

    def judge_strata(self, strata: Sequence[tuple[Sufficient, Sufficient]]) -> SequentialVerdict:
        """The verdict from evidence in strata, such as days, each holding what both arms saw in it.

        The difference is taken within each stratum and averaged with the weights n_a n_b / (n_a + n_b), so that a share
        of traffic that changes while the loss drifts does not look like an effect. Strata without one of the arms say
        nothing and are left out.
        """
        n_a, n_b = sum(a.n for a, _ in strata), sum(b.n for _, b in strata)
        paired = [(a, b) for a, b in strata if a.n and b.n]
        if min((sum(a.n for a, _ in paired), sum(b.n for _, b in paired))) < max(1, self.min_rows):
            return self._verdict(n_a, n_b, math.nan, math.inf)
        estimate, variance = self._difference(paired)
        return self._verdict(n_a, n_b, estimate, normal_mixture(1.0 / variance, self._tuning(), self.alpha))

    def _difference(self, paired: Sequence[tuple[Sufficient, Sufficient]]) -> tuple[float, float]:
        """The weighted difference and its variance."""
        spread_a = self._variance([a for a, _ in paired])
        spread_b = self._variance([b for _, b in paired])
        weights = [a.n * b.n / (a.n + b.n) for a, b in paired]
        total = sum(weights)
        estimate = sum(w * (b.mean - a.mean) for w, (a, b) in zip(weights, paired, strict=True)) / total
        variance = sum(w * w * (spread_a / a.n + spread_b / b.n) for w, (a, b) in zip(weights, paired, strict=True))
        return estimate, variance / (total * total)

    def _variance(self, parts: Sequence[Sufficient]) -> float:
        """The variance within strata, with one pseudo-observation at each end of the range."""
        n = sum(part.n for part in parts)
        within = sum((part.n - 1) * part.variance for part in parts if part.n > 1)
        middle = sum(part.total for part in parts) / n
        pseudo = ((self.high - middle) ** 2 + (self.low - middle) ** 2) * n / (n + 2)
        freedom = max(1, n - len(parts))
        return (within * n / freedom + pseudo) / (n + 2)

    def _tuning(self) -> float:
        """The mixture's variance that makes the boundary tightest at half-width `focus` (Howard et al. 2021, §3.5)."""
        ratio = _best_ratio(self.alpha)
        time = (1 + 1 / ratio) * math.log((1 + ratio) / self.alpha**2) / self.focus**2
        return time / ratio

    def _verdict(self, n_a: int, n_b: int, estimate: float, radius: float) -> SequentialVerdict:
        reach = self.high - self.low
        lower, upper = max(-reach, estimate - radius), min(reach, estimate + radius)
        if math.isnan(estimate):
            estimate, lower, upper = 0.0, -reach, reach
        return SequentialVerdict(
            n_a, n_b, estimate, lower, upper, self.alpha, _decide(lower, upper, self.margin), "mean_difference"
        )


class EventDifference(msgspec.Struct, frozen=True):
    """Compares rates of an event (an error, a slow answer) between two arms, exactly for any sample sizes.

    Args:
        alpha: the chance that any of the intervals misses the truth, over the whole watch.
        margin: differences within ± margin count as equivalent; 0 means that equivalence is never declared.
        expected: the rate at which the intervals are tightest; they are valid for any.

    Raises:
        Invalid: alpha or expected is not between 0 and 1.
    """

    alpha: float = 0.05
    margin: float = 0.0
    expected: float = 0.01

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        if not 0 < self.expected < 1 or self.margin < 0:
            raise Invalid(f"expected rate {self.expected:g} is not between 0 and 1, or margin {self.margin:g} below 0")

    def judge(self, a: Sufficient, b: Sufficient) -> SequentialVerdict:
        """The verdict on arm `b` against arm `a`; `total` counts the events among `n`."""
        if not a.n or not b.n:
            return SequentialVerdict(a.n, b.n, 0.0, -1.0, 1.0, self.alpha, Decision.UNDECIDED, "event_difference")
        low_a, high_a = event_rate_sequence(a.n, a.total, self.alpha / 2, self.expected)
        low_b, high_b = event_rate_sequence(b.n, b.total, self.alpha / 2, self.expected)
        lower, upper = low_b - high_a, high_b - low_a
        decided = _decide(lower, upper, self.margin)
        return SequentialVerdict(
            a.n, b.n, b.mean - a.mean, lower, upper, self.alpha, decided, method="event_difference"
        )


def mean_difference(
    a: Sufficient, b: Sufficient, *, alpha: float = 0.05, focus: float = 0.02, margin: float = 0.0
) -> SequentialVerdict:
    """The always-valid comparison of two means of a loss in [0, 1]: see `MeanDifference`.

    Raises:
        Invalid: alpha, focus or margin is out of range.
    """
    return MeanDifference(alpha=alpha, focus=focus, margin=margin).judge(a, b)


def error_rate_difference(
    a: Sufficient, b: Sufficient, *, alpha: float = 0.05, margin: float = 0.0, expected: float = 0.01
) -> SequentialVerdict:
    """The always-valid comparison of two rates of errors: see `EventDifference`.

    Raises:
        Invalid: alpha, margin or expected is out of range.
    """
    return EventDifference(alpha=alpha, margin=margin, expected=expected).judge(a, b)


def normal_mixture(time: float, tuning: float, alpha: float) -> float:
    """The half-width, at intrinsic time u (one over the variance), of the normal-mixture confidence sequence of a mean:
    sqrt((u + r) log((u + r) / (r alpha²))) / u."""
    both = time + tuning
    return math.sqrt(both * math.log(both / (tuning * alpha * alpha))) / time


def event_rate_sequence(n: int, events: float, alpha: float, expected: float = 0.01) -> tuple[float, float]:
    """An always-valid interval for the rate of an event seen `events` times in `n`: all rates p whose beta-binomial
    likelihood ratio against p stays below 1/alpha. Valid for any mean of values in [0, 1], too, since the ratio is
    convex in each value.

    Args:
        n: how many were seen.
        events: how often it happened.
        alpha: the chance that any of the intervals misses the rate.
        expected: the rate at which the mixture, a beta distribution of mean `expected`, has its weight.

    Returns:
        The lower and the upper end.
    """
    a, b = 1.0, (1.0 - expected) / expected
    if b < 1.0:
        a, b = expected / (1.0 - expected), 1.0
    mixed = _log_beta(a + events, b + n - events) - _log_beta(a, b)
    threshold = -math.log(alpha)

    def excess(rate: float) -> float:
        return mixed - _log_likelihood(n, events, rate) - threshold

    top = events / n if n else expected
    return _cross(excess, 0.0, top), _cross(excess, 1.0, top)


def _cross(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Where `excess` changes sign between a rate that is ruled out and one that is not, by bisection."""
    if excess(min(max(outside, 1e-15), 1 - 1e-15)) <= 0:
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        if excess(middle) > 0:
            outside = middle
        else:
            inside = middle
    return outside


def _log_likelihood(n: int, events: float, rate: float) -> float:
    happened = events * math.log(rate) if events else 0.0
    rest = (n - events) * math.log1p(-rate) if n > events else 0.0
    return happened + rest


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _best_ratio(alpha: float) -> float:
    """The x that makes (1 + 1/x) log((1 + x)/alpha²) least: the root of x = log((1 + x)/alpha²)."""
    ratio = 1.0 - 2.0 * math.log(alpha)
    for _ in range(50):
        ratio = math.log1p(ratio) - 2.0 * math.log(alpha)
    return ratio


def _decide(lower: float, upper: float, margin: float) -> Decision:
    if upper < 0:
        return Decision.BETTER
    if lower > -margin and upper < margin:
        return Decision.EQUIVALENT
    return Decision.WORSE if lower > 0 else Decision.UNDECIDED


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise Invalid(f"alpha {alpha:g} is not between 0 and 1", next_step="0.05 is usual")
