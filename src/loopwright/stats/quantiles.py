"""A quantile sketch with bounded memory: compactors over blocks, as in KLL, with coins that are not random.

Karnin, Lang & Liberty, "Optimal quantile approximation in streams" (FOCS 2016); Manku, Rajagopalan & Lindsay,
"Approximate medians and other quantiles in one pass and with limited memory" (SIGMOD 1998).

Each level keeps fewer than `k` values; a value of level h stands for 2^h values. A full block of k values is sorted and
every second one moves a level up; a coin says whether the odd or the even ones. KLL tosses the coin; here it is a hash
of the level and of the number of blocks compacted so far, so that the same data always give the same bytes: a profile
is part of a bundle, and a bundle is named by its digest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_K = 512


class QuantileSketch:
    """Ranks and quantiles of a stream of numbers, kept with the precision of a 32-bit float.

    Single precision on purpose: a value that is trained on as float64 and served as float32 falls into the same place.
    Exact while `n` < `k`. Merging is commutative to the bit, and associative within `rank_error`.
    """

    __slots__ = ("compactions", "k", "levels", "n")

    def __init__(self, k: int = DEFAULT_K) -> None:
        self.k = k
        self.n = 0
        self.levels: list[NDArray[np.float32]] = []
        self.compactions: list[int] = []

    def update(self, values: NDArray[Any]) -> None:
        """Add finite or infinite numbers (no NaN); about 10 ns a value."""
        import numpy as np

        self.n += len(values)
        with np.errstate(over="ignore"):  # what no 32-bit float reaches becomes infinite, in its place
            self._push(0, np.asarray(values, dtype=np.float32))

    def merge(self, other: QuantileSketch) -> QuantileSketch:
        """The sketch of both streams; neither operand changes.

        Raises:
            ValueError: the sketches differ in `k`.
        """
        import numpy as np

        if other.k != self.k:
            raise ValueError(f"sketches of k={self.k} and k={other.k} cannot be merged")
        merged = QuantileSketch(self.k)
        merged.n = self.n + other.n
        depth = max(len(self.levels), len(other.levels))
        merged.levels = [np.empty(0, dtype=np.float32) for _ in range(depth)]
        merged.compactions = [_at(self.compactions, level) + _at(other.compactions, level) for level in range(depth)]
        for level in range(depth):
            both = [sketch.levels[level] for sketch in (self, other) if level < len(sketch.levels)]
            merged.levels[level] = np.sort(np.concatenate([*both, merged.levels[level]]))
            merged._compact(level)
        return merged

    def ranks(self, edges: NDArray[Any]) -> NDArray[np.float64]:
        """The share of values at or below each edge."""
        import numpy as np

        items, cumulative = self._weighted()
        if not self.n:
            return np.zeros(len(edges))
        places = np.searchsorted(items, np.asarray(edges, dtype=np.float32), side="right")
        return np.concatenate([[0.0], cumulative])[places] / self.n

    def quantiles(self, shares: NDArray[Any]) -> NDArray[np.float64]:
        """The smallest kept value whose rank is at least each share; NaN while the sketch is empty."""
        import numpy as np

        items, cumulative = self._weighted()
        if not self.n:
            return np.full(len(shares), np.nan)
        places = np.searchsorted(cumulative, np.asarray(shares) * self.n - 1e-9 * self.n, side="left")
        return items[np.minimum(places, len(items) - 1)].astype(np.float64)

    @property
    def rank_error(self) -> float:
        """How far a rank may be off, as a share: the smaller of the certain bound and 2.58 standard deviations.

        A compaction at level h moves a rank by at most 2^h, up or down with equal chance.
        """
        if not self.n or not any(self.compactions):
            return 0.0
        certain: float = sum(count * 2**level for level, count in enumerate(self.compactions)) / self.n
        deviation = math.sqrt(sum(count * 4**level for level, count in enumerate(self.compactions))) / self.n
        return min(certain, 2.58 * deviation)

    def _push(self, level: int, carry: NDArray[np.float32]) -> None:
        import numpy as np

        while len(carry):
            if level == len(self.levels):
                self.levels.append(np.empty(0, dtype=np.float32))
                self.compactions.append(0)
            self.levels[level] = np.concatenate([self.levels[level], carry])
            carry = self._take_full_blocks(level)
            level += 1

    def _compact(self, level: int) -> None:
        carry = self._take_full_blocks(level)
        if not len(carry):
            return
        import numpy as np

        if level + 1 == len(self.levels):
            self.levels.append(carry)
            self.compactions.append(0)
        else:
            self.levels[level + 1] = np.concatenate([self.levels[level + 1], carry])

    def _take_full_blocks(self, level: int) -> NDArray[np.float32]:
        """Remove the full blocks of a level and give back the half of them that moves up."""
        import numpy as np

        values = self.levels[level]
        blocks = len(values) // self.k
        if not blocks:
            return np.empty(0, dtype=np.float32)
        self.levels[level] = values[blocks * self.k :].copy()
        ordered = np.sort(values[: blocks * self.k].reshape(blocks, self.k), axis=1)
        coins = _coins(level, self.compactions[level], blocks)
        self.compactions[level] += blocks
        return np.where(coins[:, None], ordered[:, 1::2], ordered[:, 0::2]).ravel()

    def _weighted(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The kept values in order, and the running sum of their weights."""
        import numpy as np

        if not self.levels:
            return np.empty(0, dtype=np.float32), np.empty(0)
        items = np.concatenate(self.levels)
        weights = np.repeat(2.0 ** np.arange(len(self.levels)), [len(level) for level in self.levels])
        order = np.argsort(items, kind="stable")
        return items[order], np.cumsum(weights[order])


def _at(counts: list[int], level: int) -> int:
    return counts[level] if level < len(counts) else 0


def _coins(level: int, first: int, count: int) -> NDArray[np.bool_]:
    """`count` fair coins, the same each time: a mix of the level and the number of the block."""
    import numpy as np

    from loopwright.stats.distinct import mix

    numbers = np.arange(first, first + count, dtype=np.uint64) + np.uint64(level << 48)
    return (mix(numbers) & np.uint64(1)).astype(np.bool_)
