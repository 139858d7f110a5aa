"""The models in memory: what each costs, who used it last, and which must leave for another."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from loopwright.models import AnyPredictor

if TYPE_CHECKING:
    from loopwright.features import LookupReader


class Model:
    """A model in memory.

    Attributes:
        predictor: what answers.
        columns_key: how the prediction log refers to the names of its inputs.
        size_bytes: what it took in memory.
        reader: finds inputs by an entity's key; None where the bundle says not how.
    """

    __slots__ = ("columns_key", "predictor", "reader", "size_bytes")

    def __init__(
        self, predictor: AnyPredictor, columns_key: str, size_bytes: int, reader: LookupReader | None = None
    ) -> None:
        self.predictor, self.columns_key, self.size_bytes, self.reader = predictor, columns_key, size_bytes, reader


class Shelf:
    """Models by the digest of their bundle. What a digest cost once is remembered when it has left."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self._costs: dict[str, int] = {}

    def put(self, digest: str, model: Model) -> None:
        """Keep a model."""
        self.models[digest] = model
        self._costs[digest] = model.size_bytes

    def cost(self, digest: str, size_on_disk: int) -> int:
        """What a model takes, as far as that is known: its files at least."""
        return max(size_on_disk, self._costs.get(digest, 0))

    def keep_only(self, digests: Iterable[str]) -> list[Model]:
        """Let go of all other models; those."""
        kept = set(digests)
        return [self.models.pop(digest) for digest in [digest for digest in self.models if digest not in kept]]

    @property
    def size_bytes(self) -> int:
        """What they take together."""
        return sum(model.size_bytes for model in self.models.values())


class Usage:
    """When each endpoint was used last, seen from counts: the hot path keeps no clock for it."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._used_at: dict[str, float] = {}

    def look(self, counts: Mapping[str, int]) -> None:
        """Compare with the counts before: who has more was used."""
        now = time.monotonic()
        for name, count in counts.items():
            if self._seen.get(name, 0) != count:
                self._seen[name] = count
                self._used_at[name] = now

    def touch(self, name: str) -> None:
        """Note that somebody asked for it just now."""
        self._used_at[name] = time.monotonic()

    def oldest_first(self, names: Iterable[str]) -> list[str]:
        """Names in the order of their last use."""
        return sorted(names, key=lambda name: self._used_at.get(name, 0.0))


def to_evict(sizes: Mapping[str, int], order: Iterable[str], room: int) -> list[str]:
    """Who must leave so that at most `room` bytes remain: the first in `order`, and no more than necessary.

    Args:
        sizes: bytes by name.
        order: names, the first to leave first; who is not named stays.
        room: bytes; below 0 everybody in `order` leaves.
    """
    held, leaving = sum(sizes.values()), []
    for name in order:
        if held <= room:
            break
        leaving.append(name)
        held -= sizes[name]
    return leaving
