"""Latencies, or other positive numbers over many orders of magnitude, counted in bins of equal ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOWEST = 0.01
_DECADES = 7
_PER_DECADE = 16
_BINS = _DECADES * _PER_DECADE


class LatencyCounts:
    """Counts of latencies in milliseconds, 16 bins to a factor of ten from 0.01 ms to 100 s: a quantile is known to
    within 8 %. Merging is exact."""

    __slots__ = ("counts",)

    def __init__(self, counts: NDArray[np.int64] | None = None) -> None:
        import numpy as np

        self.counts: NDArray[np.int64] = np.zeros(_BINS, np.int64) if counts is None else counts

    @property
    def n(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def update(self, milliseconds: NDArray[Any]) -> None:
        """Add latencies."""
        import numpy as np

        logs = np.log10(np.maximum(np.asarray(milliseconds, dtype=np.float64), _LOWEST) / _LOWEST)
        places = np.clip((logs * _PER_DECADE).astype(np.int64), 0, _BINS - 1)
        self.counts += np.bincount(places, minlength=_BINS)

    def merge(self, other: LatencyCounts) -> LatencyCounts:
        """The counts of both."""
        return LatencyCounts(self.counts + other.counts)

    def quantile(self, share: float) -> float:
        """The latency in milliseconds that `share` of them do not pass (the middle of its bin); NaN for none."""
        import numpy as np

        if not self.n:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), share * self.n, side="left"))
        return float(_LOWEST * 10 ** ((min(place, _BINS - 1) + 0.5) / _PER_DECADE))
