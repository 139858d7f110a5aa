"""Explanations: how far each input of a row moved the model's answer from its answer to a usual row.

The values are baseline Shapley values (Sundararajan and Najmi, "The many Shapley values for model explanation", ICML
2020, section 3): the usual row has each input's median, or its most frequent value, in the training profile. They are
estimated over random orders of the inputs, each with its reverse (Castro, Gómez and Tejada, "Polynomial calculation of
the Shapley value based on sampling", 2009; Mitchell and others, "Sampling permutations for Shapley value estimation",
JMLR 23, 2022, on antithetic pairs). Whatever the number of orders, the values add up to the difference exactly.

Any model can be explained so: it is asked, and nothing is assumed of it. What is told is how the model behaves between
two rows, and no cause in the world.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from loopwright.core import DType, Invalid, Unavailable
from loopwright.models import Bundle, Signature
from loopwright.serve.block import Array
from loopwright.serve.loaded import LoadedVariant
from loopwright.serve.query import Answer

_USUAL_PAIRS = 16
_MOST_ROWS = 32  # that one request may have explained
_MOST_WAITING = 8  # requests
_AT_ONCE = 4_096  # rows that the model answers at once
_MOST_ASKED = 65_536  # rows that the model is asked for one explanation
Predict = Callable[[list[list[Any]]], Array]


class Explanation(msgspec.Struct, frozen=True):
    """How one answer came about.

    Attributes:
        output: which output is explained; for one with several numbers, the largest of them.
        baseline: the model's answer to the usual row.
        answer: its answer to this row: `baseline` and all of `values` together.
        values: by input, how far it moved the answer.
        errors: the standard error of each value, from the spread over pairs of orders.
    """

    output: str
    baseline: float
    answer: float
    values: dict[str, float]
    errors: dict[str, float]


class Explainer:
    """Explains answers on a thread of its own. Lives on one event loop."""

    def __init__(self, fetch: Callable[[str], Bundle]) -> None:
        """Args:
        fetch: gives the bundle with a digest, whose profile tells the usual row.
        """
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loopwright-explain")
        self._waiting = 0
        self._usual: dict[str, list[Any]] = {}

    async def explain(self, answer: Answer, output: str = "", pairs: int = _USUAL_PAIRS) -> list[Explanation]:
        """An explanation for each row of an answer.

        Args:
            output: which one; by default the first that has numbers, a label aside.
            pairs: of orders; more give smaller errors.

        Raises:
            Invalid: too many rows, no such output, or the model's bundle has no profile of an input.
            Unavailable: too many requests wait for explanations.
        """
        count = len(answer.query.rows)
        if count > _MOST_ROWS:
            raise Invalid(f"{count} rows are to be explained", next_step=f"send {_MOST_ROWS} at most at a time")
        if self._waiting >= _MOST_WAITING:
            raise Unavailable(f"{self._waiting} requests wait for explanations", next_step="try again in a second")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._all, answer, output, pairs)
        finally:
            self._waiting -= 1

    def _all(self, answer: Answer, output: str, pairs: int) -> list[Explanation]:
        """On the thread."""
        found: dict[int, Explanation] = {}
        for part in answer.query.parts:
            rows = part.rows if isinstance(part.rows, list) else part.rows.rows()
            for row, place in zip(rows, part.places or range(len(rows)), strict=True):
                found[place] = self._one(part.loaded, row, output, pairs)
        return [found[place] for place in sorted(found)]

    def _one(self, loaded: LoadedVariant, row: list[Any], output: str, pairs: int) -> Explanation:
        signature = loaded.predictor.signature
        name = _output(signature, output)
        usual = self._usual_row(loaded)
        [first] = _asked(loaded, [row], name)
        at = int(np.argmax(first)) if first.ndim else 0

        def predict(rows: list[list[Any]]) -> Array:
            values = _asked(loaded, rows, name)
            return values[:, at] if values.ndim > 1 else values

        values, errors, ends = shapley(predict, row, usual, pairs, random.Random(0))
        names = signature.names
        return Explanation(
            f"{name}[{at}]" if first.ndim else name,
            ends[0],
            ends[1],
            dict(zip(names, values.tolist(), strict=True)),
            dict(zip(names, errors.tolist(), strict=True)),
        )

    def _usual_row(self, loaded: LoadedVariant) -> list[Any]:
        digest = loaded.variant.bundle
        held = self._usual.get(digest)
        if held is None:
            held = self._usual[digest] = usual_row(self._fetch(digest))
        return held


def usual_row(bundle: Bundle) -> list[Any]:
    """Each input's median in the training profile, or its most frequent value; None where most were missing.

    Raises:
        Invalid: the profile lacks an input.
    """
    columns = bundle.profile().columns
    found: list[Any] = []
    for item in bundle.signature.inputs:
        sketch = columns.get(item.name)
        if sketch is None or not sketch.count + sketch.nulls:
            raise Invalid(
                f"the training profile has no input {item.name!r}, so there is no usual row to compare with",
                next_step="build the bundle with a profile of its training data",
            )
        if sketch.nulls > sketch.count:
            found.append(None)
        elif item.dtype is DType.STRING:
            found.append(str(sketch.top(1)[0][0]))
        else:
            found.append(_of_type(float(sketch.quantiles([0.5])[0]), item.dtype))
    return found


def shapley(
    predict: Predict, row: Sequence[Any], usual: Sequence[Any], pairs: int, rng: random.Random
) -> tuple[Array, Array, tuple[float, float]]:
    """Baseline Shapley values of a row: their estimates, the standard errors, and the answers to both rows.

    Args:
        predict: rows to a number each.
        row, usual: the values of each input.
        pairs: of orders of the inputs; as many as are affordable.
        rng: draws them.
    """
    inputs = [at for at, (value, other) in enumerate(zip(row, usual, strict=True)) if value != other]
    pairs = max(1, min(pairs, _MOST_ASKED // (2 * (len(inputs) + 1))))
    orders = []
    for _ in range(pairs):
        order = rng.sample(inputs, len(inputs))
        orders += [order, order[::-1]]
    asked = [step for order in orders for step in _steps(row, usual, order)]
    answers = np.concatenate([predict(asked[at : at + _AT_ONCE]) for at in range(0, len(asked), _AT_ONCE)])
    paths = answers.astype(np.float64).reshape(len(orders), len(inputs) + 1)
    moved = np.zeros((len(orders), len(row)))
    for number, order in enumerate(orders):
        moved[number, order] = np.diff(paths[number])
    by_pair = moved.reshape(pairs, 2, len(row)).mean(axis=1)
    errors = by_pair.std(axis=0, ddof=1) / np.sqrt(pairs) if pairs > 1 else np.full(len(row), np.nan)
    return by_pair.mean(axis=0), errors, (float(paths[0, 0]), float(paths[0, -1]))


def _steps(row: Sequence[Any], usual: Sequence[Any], order: Sequence[int]) -> list[list[Any]]:
    """From the usual row to the row, one input after the other."""
    step = list(usual)
    steps = [list(step)]
    for at in order:
        step[at] = row[at]
        steps.append(list(step))
    return steps


def _asked(loaded: LoadedVariant, rows: list[list[Any]], output: str) -> Array:
    """The output's numbers, a row of them per row where it has several; one column counts as one number."""
    values = np.asarray(loaded.predictor.predict_rows(rows)[output])
    return values[:, 0] if values.ndim > 1 and values.shape[1] == 1 else values


def _output(signature: Signature, wanted: str) -> str:
    numeric = [item.name for item in signature.outputs if item.dtype in (DType.FLOAT32, DType.FLOAT64)]
    if wanted:
        if wanted not in numeric:
            raise Invalid(f"there is no output {wanted!r} with numbers", next_step=f"explain {' or '.join(numeric)}")
        return wanted
    if not numeric:
        raise Invalid("the model has no output with numbers, so there is nothing to explain")
    return numeric[0]


def _of_type(value: float, dtype: DType) -> Any:
    if dtype is DType.BOOL:
        return value > 0.5
    return round(value) if dtype is DType.INT64 else value
