"""A model in Python that takes a fifth of a millisecond for each row, as one without compiled parts may."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from loopwright.models import CustomPredictor

ROUNDS = 100


class Slow(CustomPredictor):
    """A logistic function of the sum of sines of the inputs, by a loop of Python over each row."""

    def predict(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        rows = zip(*[columns[f"x{number}"] for number in range(20)], strict=True)
        return {"probability": np.array([1 / (1 + math.exp(-_sum(row))) for row in rows], np.float32)}


def _sum(row: tuple[float, ...]) -> float:
    return sum(math.sin(value * turn) for turn in range(1, ROUNDS // 10 + 1) for value in row) / ROUNDS
