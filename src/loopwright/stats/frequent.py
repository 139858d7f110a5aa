"""The most frequent values in bounded memory.

Misra & Gries, "Finding repeated elements" (1982), merged as in Agarwal, Cormode, Huang, Phillips, Wei & Yi, "Mergeable
summaries" (PODS 2012, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT_CAPACITY = 1024


class FrequentValues:
    """Counts of texts, exact while at most `capacity` different ones were seen; later each count is too low by at most
    `error`, which never passes n / (capacity + 1)."""

    __slots__ = ("capacity", "counts", "error", "n")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self.capacity = capacity
        self.n = 0
        self.error = 0
        self.counts: dict[str, int] = {}

    def update(self, counts: Mapping[str, int]) -> None:
        """Add values with their numbers of occurrences."""
        kept = self.counts
        for value, count in counts.items():
            kept[value] = kept.get(value, 0) + count
        self.n += sum(counts.values())
        self._prune()

    def merge(self, other: FrequentValues) -> FrequentValues:
        """The counts of both streams; neither operand changes."""
        merged = FrequentValues(min(self.capacity, other.capacity))
        merged.counts = dict(self.counts)
        merged.update(other.counts)
        merged.n = self.n + other.n
        merged.error += self.error + other.error
        return merged

    def top(self, limit: int | None = None) -> list[tuple[str, int]]:
        """The most frequent values with their counts, the most frequent first, equal ones by name."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def _prune(self) -> None:
        if len(self.counts) <= self.capacity:
            return
        lowest = sorted(self.counts.values(), reverse=True)[self.capacity]
        self.counts = {value: count - lowest for value, count in self.counts.items() if count > lowest}
        self.error += lowest
