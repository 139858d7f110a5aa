"""A part cut into slices of a fixed size, which threads answer side by side.

A graph that adds floats on several threads of its own adds them in another order than on one, and its answers differ in
the last bits. Slices that are answered with one thread each give the same bits whatever the number of threads, on every
machine; and they cost less processor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from loopwright.models import Bundle, Signature
from loopwright.serve.batch.answering import Scorer

if TYPE_CHECKING:
    import numpy as np

SLICE_ROWS = 16_384


def scorer_of(bundle: Bundle, threads: int) -> Scorer:
    """What answers rows with a bundle's model; Python in its worker process takes a part whole.

    Raises:
        Corrupt: a file is not the one that was built.
        ModelFailed: the model's Python cannot be loaded.
    """
    predictor = bundle.predictor(1)
    return Sliced(predictor, threads) if predictor.inline else predictor


class Sliced:
    """A scorer that asks another one, which must be thread-safe, slice by slice."""

    def __init__(self, scorer: Scorer, threads: int) -> None:
        self._scorer = scorer
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="loopwright-scoring")

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._scorer.signature

    def predict(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """An array per output for an array per input."""
        import numpy as np

        rows = max(map(len, columns.values()), default=0)
        if rows <= SLICE_ROWS:
            return self._scorer.predict(columns)
        found = list(self._threads.map(lambda start: self._slice(columns, start), range(0, rows, SLICE_ROWS)))
        return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}

    def _slice(self, columns: Mapping[str, np.ndarray[Any, Any]], start: int) -> dict[str, np.ndarray[Any, Any]]:
        return self._scorer.predict({name: values[start : start + SLICE_ROWS] for name, values in columns.items()})
