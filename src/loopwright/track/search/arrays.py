"""What is held of runs in memory: one array for each metric, param, tag or attribute that searches compare."""

from __future__ import annotations

from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loopwright.track.columns import floats_of
from loopwright.track.search.words import Entity

Array: TypeAlias = npt.NDArray[Any]
Name: TypeAlias = tuple[Entity, str]
"""What is held: a metric, param or tag by its key, or one of ATTRIBUTES."""
ATTRIBUTES = frozenset({"status", "kind", "name", "actor", "parent"})
_WORD_BYTES = 150
_NONE = -1


class Numbers:
    """A metric's last values: `there` says which runs have one, NaN among them; `values` is NaN for the others."""

    def __init__(self, count: int) -> None:
        self.values: Array = np.full(count, np.nan)
        self.there: Array = np.zeros(count, bool)

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return self.values.nbytes + self.there.nbytes

    def extend(self, places: Array) -> None:
        """Make room before places for runs that have none."""
        self.values = np.insert(self.values, places, np.nan)
        self.there = np.insert(self.there, places, False)

    def put(self, places: Array, given: list[Any]) -> None:
        """Set the values, as bits, of the runs at places."""
        self.values[places] = floats_of(np.array(given, np.int64))
        self.there[places] = True

    def clear(self, places: Array) -> None:
        """Take the values of runs away."""
        self.values[places], self.there[places] = np.nan, False


class Texts:
    """Texts of runs by their numbers among all different ones; -1 where a run has none."""

    def __init__(self, count: int) -> None:
        self.codes: Array = np.full(count, _NONE, np.int32)
        self.words: dict[str, int] = {}
        self._letters = 0

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return self.codes.nbytes + self._letters + _WORD_BYTES * len(self.words)

    def extend(self, places: Array) -> None:
        """Make room before places for runs that have none."""
        self.codes = np.insert(self.codes, places, _NONE)

    def put(self, places: Array, given: list[Any]) -> None:
        """Set the texts of the runs at places."""
        words, before = self.words, len(self.words)
        self.codes[places] = [words.setdefault(text, len(words)) for text in given]
        self._letters += sum(map(len, islice(words, before, None)))

    def clear(self, places: Array) -> None:
        """Take the texts of runs away."""
        self.codes[places] = _NONE
