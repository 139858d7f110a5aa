"""The state of one window: sketches and sums per model version. Its size does not grow with traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, Invalid
from loopwright.monitor.batches import Group
from loopwright.monitor.model import DriftPolicy
from loopwright.stats import BinnedTable, LatencyCounts, ScoreCounts, Sufficient

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from loopwright.monitor.references import Reference


class VariantState:
    """What is kept of one model version in a window. `features` is None while its training profile is not known."""

    __slots__ = ("errors", "features", "latency", "latency_ms", "rows", "scores", "shadow")

    def __init__(self, *, shadow: bool, features: BinnedTable | None, scores: ScoreCounts | None) -> None:
        self.shadow = shadow
        self.features = features
        self.scores = scores
        self.rows = 0
        self.errors = 0
        self.latency = LatencyCounts()
        self.latency_ms = Sufficient()

    @classmethod
    def like(cls, reference: Reference, policy: DriftPolicy | None, *, shadow: bool) -> VariantState:
        """An empty state with the bins of a version's training profile, for the features that the policy watches."""
        profile = reference.table
        features = None
        if profile is not None and policy is not None:
            wanted = [name for name in reference.features if not policy.features or name in policy.features]
            features = BinnedTable.like(profile, [name for name in wanted if name not in policy.ignore])
        scored = reference.task in ("binary", "multiclass", "regression")
        return cls(shadow=shadow, features=features, scores=ScoreCounts(reference.task) if scored else None)

    def fold(self, group: Group, chosen: NDArray[np.int64]) -> None:
        """Add the rows `chosen` of a group. Rows that failed count as errors; their features count all the same."""
        self.rows += len(chosen)
        self.errors += int(group.failed[chosen].sum())
        latency = group.latency_ms[chosen]
        self.latency.update(latency)
        self.latency_ms += Sufficient.of(latency)
        if self.features is None:
            return
        whole = len(chosen) == len(group)
        places = chosen.tolist()
        for name, column in self.features.columns.items():
            values = group.features.get(name, ())
            some = values if whole else [values[place] for place in places if values]
            try:
                column.update(some, nulls=len(chosen) - len(some))
            except Invalid:  # what training knew as a number is none now: as good as missing, and seen as such
                kept = [value for value in some if isinstance(value, int | float)]
                column.update(kept, nulls=len(chosen) - len(kept))
        self.features.rows += len(chosen)


class WindowState:
    """The versions that answered in a window."""

    __slots__ = ("variants",)

    def __init__(self, variants: dict[str, VariantState] | None = None) -> None:
        self.variants: dict[str, VariantState] = {} if variants is None else variants

    @property
    def rows(self) -> int:
        """Predictions that callers got, shadows left out."""
        return sum(variant.rows for variant in self.variants.values() if not variant.shadow)

    @property
    def labels(self) -> int:
        """Labels of predictions that callers got."""
        scored = (v.scores for v in self.variants.values() if not v.shadow)
        return sum(scores.n for scores in scored if scores is not None)

    @property
    def main(self) -> str:
        """The version that answered most rows; empty for a window of shadows only."""
        served = {model: variant.rows for model, variant in self.variants.items() if not variant.shadow}
        return max(served, key=lambda model: (served[model], model), default="")

    def to_bytes(self) -> bytes:
        """The state as bytes."""
        return msgspec.msgpack.encode({model: _pack(variant) for model, variant in self.variants.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> WindowState:
        """The state that `to_bytes` wrote.

        Raises:
            Corrupt: the bytes are none.
        """
        try:
            packed: Mapping[str, _Packed] = msgspec.msgpack.decode(data, type=dict[str, _Packed])
        except msgspec.DecodeError as error:
            raise Corrupt(f"the state of a window cannot be read: {error}") from None
        return cls({model: _unpack(one) for model, one in packed.items()})


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    shadow: bool
    rows: int
    errors: int
    latency: dict[int, int]
    latency_ms: Sufficient
    features: bytes | None
    scores: bytes | None


def _pack(variant: VariantState) -> _Packed:
    counts: Any = variant.latency.counts
    return _Packed(
        variant.shadow,
        variant.rows,
        variant.errors,
        {int(place): int(counts[place]) for place in counts.nonzero()[0]},
        variant.latency_ms,
        None if variant.features is None else variant.features.to_bytes(),
        None if variant.scores is None else variant.scores.to_bytes(),
    )


def _unpack(packed: _Packed) -> VariantState:
    variant = VariantState(
        shadow=packed.shadow,
        features=None if packed.features is None else BinnedTable.from_bytes(packed.features),
        scores=None if packed.scores is None else ScoreCounts.from_bytes(packed.scores),
    )
    variant.rows, variant.errors, variant.latency_ms = packed.rows, packed.errors, packed.latency_ms
    for place, count in packed.latency.items():
        variant.latency.counts[place] = count
    return variant
