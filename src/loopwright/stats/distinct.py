"""How many different values: HyperLogLog over NumPy arrays, the same bytes for the same data.

Flajolet, Fusy, Gandouet & Meunier, "HyperLogLog" (AofA 2007), read out with the estimator of Ertl, "New cardinality
estimation algorithms for HyperLogLog sketches" (arXiv:1702.01284, 2017, algorithm 6), which has no bias to correct at
small and middle sizes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BITS = 12
_REGISTERS = 1 << _BITS
_REST = 64 - _BITS
_LONG_TEXT = 64
_EXACT_FLOAT = 2**53


class DistinctSketch:
    """Counts different values in 4 KiB, with a standard error of 1.6 %. Merging is exact: as if fed with both."""

    __slots__ = ("registers",)

    def __init__(self, registers: NDArray[np.uint8] | None = None) -> None:
        import numpy as np

        self.registers: NDArray[np.uint8] = np.zeros(_REGISTERS, np.uint8) if registers is None else registers

    def update_numbers(self, values: NDArray[Any]) -> None:
        """Add numbers; 3 and 3.0 are the same value."""
        self._update(_hash_numbers(values))

    def update_texts(self, values: Sequence[str]) -> None:
        """Add texts; quickest when each occurs once."""
        if values:
            self._update(_hash_texts(values))

    def merge(self, other: DistinctSketch) -> DistinctSketch:
        """The sketch of both sets; neither operand changes."""
        import numpy as np

        return DistinctSketch(np.maximum(self.registers, other.registers))

    def estimate(self) -> float:
        """The number of different values."""
        import numpy as np

        counts = np.bincount(self.registers, minlength=_REST + 2)
        z = _REGISTERS * _tau(1.0 - float(counts[_REST + 1]) / _REGISTERS)
        for rank in range(_REST, 0, -1):
            z = 0.5 * (z + float(counts[rank]))
        z += _REGISTERS * _sigma(float(counts[0]) / _REGISTERS)
        return float(_REGISTERS**2 / (2.0 * math.log(2.0) * z)) if math.isfinite(z) else 0.0

    def _update(self, hashes: NDArray[np.uint64]) -> None:
        import numpy as np

        places = (hashes >> np.uint64(_REST)).astype(np.int64)
        rest = hashes & np.uint64((1 << _REST) - 1)
        length = np.frexp(rest.astype(np.float64))[1]
        np.maximum.at(self.registers, places, (_REST + 1 - length).astype(np.uint8))


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers that scatters them (SplitMix64's finaliser; Steele, Lea & Flood, OOPSLA 2014)."""
    import numpy as np

    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _hash_numbers(values: NDArray[Any]) -> NDArray[np.uint64]:
    import numpy as np

    if values.dtype.kind in "iu" and len(values) and int(np.abs(values).max()) >= _EXACT_FLOAT:
        return mix(values.astype(np.uint64))
    return mix((values.astype(np.float64) + 0.0).view(np.uint64))


def _hash_texts(values: Sequence[str]) -> NDArray[np.uint64]:
    import numpy as np

    table = np.array([_shortened(value) for value in values], dtype=np.str_)
    width = max(1, table.dtype.itemsize // 4)
    letters = np.ascontiguousarray(table).view(np.uint32).reshape(len(values), -1)[:, :width].astype(np.uint64)
    hashes = np.zeros(len(values), dtype=np.uint64)
    for place in range(letters.shape[1]):
        letter = letters[:, place]
        hashes = np.where(letter > 0, mix(hashes ^ (letter + np.uint64(place << 32))), hashes)
    return mix(hashes)


def _shortened(text: str) -> str:
    """Long texts by their digest, so that one of them does not widen the whole table."""
    if len(text) <= _LONG_TEXT:
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z, previous = 1.0, x, math.nan
    while z != previous:
        x *= x
        previous = z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, previous = 1.0, 1.0 - x, math.nan
    while z != previous:
        x = math.sqrt(x)
        previous = z
        y *= 0.5
        z -= (1.0 - x) ** 2 * y
    return z / 3.0
