"""Control of false discoveries over many tests.

Benjamini & Hochberg, "Controlling the false discovery rate" (JRSS B 1995); it holds for independent tests and for those
with positive regression dependence (Benjamini & Yekutieli, Annals of Statistics 2001), as features that move together.
"""

from __future__ import annotations

from collections.abc import Sequence


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """For each test the least false-discovery rate at which it would be a discovery."""
    count = len(p_values)
    adjusted = [1.0] * count
    least = 1.0
    for rank, place in reversed(list(enumerate(sorted(range(count), key=lambda index: p_values[index]), start=1))):
        least = min(least, p_values[place] * count / rank)
        adjusted[place] = least
    return adjusted


def benjamini_hochberg(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which tests are discoveries when at most a share `alpha` of the discoveries may be false, on average."""
    return [value <= alpha for value in adjusted_p_values(p_values)]
