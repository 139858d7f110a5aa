"""How many rows a comparison needs, and what it can see. Cohen, "Statistical Power Analysis", 1988, chapter 2."""

from __future__ import annotations

import math
from statistics import NormalDist

from loopwright.core import Invalid
from loopwright.stats.intervals import normal_quantile


def sample_size(effect: float, std: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0) -> int:
    """Rows needed in the smaller arm to see a difference of means in one look, two-sided.

    Args:
        effect: the difference that matters, in the loss's unit.
        std: the loss's standard deviation within an arm.
        alpha: the false-alarm rate.
        power: the chance to see the effect where it is there.
        ratio: rows of the larger arm for each row of the smaller one.

    Raises:
        Invalid: effect is 0, or std, ratio, alpha or power is out of range.
    """
    if effect == 0 or std < 0 or ratio <= 0 or not 0 < alpha < 1 or not 0 < power < 1:
        raise Invalid(
            f"no sample size for effect {effect:g}, std {std:g}, ratio {ratio:g}, alpha {alpha:g}, power {power:g}"
        )
    reach = normal_quantile(1 - alpha / 2) + normal_quantile(power)
    return max(2, math.ceil((1 + 1 / ratio) * (reach * std / effect) ** 2))


def power_of(n_a: int, n_b: int, effect: float, std: float, *, alpha: float = 0.05) -> float:
    """The chance that one look at n_a and n_b rows sees a difference of means of `effect`, two-sided."""
    if n_a < 1 or n_b < 1:
        return 0.0
    if std <= 0:
        return 1.0 if effect else alpha
    shift = abs(effect) / (std * math.sqrt(1 / n_a + 1 / n_b))
    edge = normal_quantile(1 - alpha / 2)
    normal = NormalDist()
    return normal.cdf(shift - edge) + normal.cdf(-shift - edge)


def detectable_effect(n_a: int, n_b: int, std: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The least difference of means that n_a and n_b rows show with the given power; infinite for an empty arm."""
    if n_a < 1 or n_b < 1:
        return math.inf
    return (normal_quantile(1 - alpha / 2) + normal_quantile(power)) * std * math.sqrt(1 / n_a + 1 / n_b)
