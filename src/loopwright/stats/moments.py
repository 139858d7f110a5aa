"""Sufficient statistics of a mean and a variance, which add up exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec


class Moments(msgspec.Struct, frozen=True):
    """How many values, their mean and their sum of squared deviations. Merges without loss of digits
    (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def merge(self, other: Moments) -> Moments:
        """The moments of both samples."""
        n = self.n + other.n
        if not n:
            return self
        gap = other.mean - self.mean
        mean = (self.mean * self.n + other.mean * other.n) / n
        return Moments(n, mean, self.squares + other.squares + gap * gap * self.n * other.n / n)

    @property
    def variance(self) -> float:
        """The unbiased sample variance; NaN below two values."""
        return self.squares / (self.n - 1) if self.n > 1 else math.nan

    @property
    def std(self) -> float:
        """The square root of the variance; NaN below two values."""
        return math.sqrt(self.variance) if self.n > 1 else math.nan


class Sufficient(msgspec.Struct, frozen=True):
    """The sufficient statistics of a bounded loss: number, sum, sum of squares. Plain sums, so that a database or a
    stream can add them up. For an event that happens or not, `total` counts how often it happened."""

    n: int = 0
    total: float = 0.0
    total_squares: float = 0.0

    def __add__(self, other: Sufficient) -> Sufficient:
        return Sufficient(self.n + other.n, self.total + other.total, self.total_squares + other.total_squares)

    @classmethod
    def of(cls, values: Iterable[float]) -> Sufficient:
        """The statistics of a sample."""
        import numpy as np

        sample = np.asarray(values if hasattr(values, "__len__") else list(values), dtype=np.float64)
        return cls(len(sample), float(sample.sum()), float(np.square(sample).sum()))

    @classmethod
    def of_events(cls, n: int, happened: int) -> Sufficient:
        """The statistics of an event that happened `happened` times out of `n`."""
        return cls(n, float(happened), float(happened))

    @property
    def mean(self) -> float:
        """The sample mean; NaN when empty."""
        return self.total / self.n if self.n else math.nan

    @property
    def variance(self) -> float:
        """The unbiased sample variance; NaN below two values."""
        if self.n < 2:
            return math.nan
        return max(0.0, self.total_squares - self.total * self.total / self.n) / (self.n - 1)
