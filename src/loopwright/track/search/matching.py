"""The filter language on records: which runs match and in what order, without a database.

The answers are those that a workspace gives (`loopwright.track.search.query`); it takes time in proportion to the runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from loopwright.track.model import Run, RunInput
from loopwright.track.search.words import Comparison, Entity, Operator, SortKey

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_WILD = {"%": ".*", "_": "."}
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def matches(run: Run, items: Iterable[Comparison]) -> bool:
    """Whether all comparisons of a filter hold for a run."""
    return all(_holds(run, item) for item in items)


def in_order(runs: Iterable[Run], keys: Sequence[SortKey]) -> list[Run]:
    """The runs by these keys, where they are equal newest first, then by id; what has no value comes last, NaN just
    before it."""
    found = sorted(sorted(runs, key=lambda run: run.id), key=lambda run: run.started_at, reverse=True)
    for key in reversed(keys):
        valued = [(_value(run, key.entity, key.key), run) for run in found]
        there = [(value, run) for value, run in valued if value is not None]
        numbers = [pair for pair in there if pair[0] == pair[0]]
        numbers.sort(key=lambda pair: pair[0], reverse=key.descending)  # equal ones stay as they are either way
        nan = [run for value, run in there if value != value]
        found = [run for _, run in numbers] + nan + [run for value, run in valued if value is None]
    return found


def dataset_of(item: RunInput) -> str:
    """The name of the dataset that an input is, by default that in its ref; empty if it is none."""
    kind, _, rest = item.ref.partition(":")
    return item.dataset or (rest.partition("@")[0] if kind == "dataset" else "")


def _holds(run: Run, item: Comparison) -> bool:
    if item.entity is Entity.DATASET:
        return any(compares(value, item) for value in _dataset_words(run, item.key) if value)
    value = _value(run, item.entity, item.key)
    if item.operator in (Operator.IS_NULL, Operator.IS_NOT_NULL):
        return (value is None) == (item.operator is Operator.IS_NULL)
    if isinstance(value, datetime):
        value = (value - _EPOCH) // _MILLISECOND
    return value is not None and compares(value, item)


def _value(run: Run, entity: Entity, key: str) -> Any:
    if entity is Entity.METRIC:
        return float(run.not_finite[key]) if key in run.not_finite else run.metrics.get(key)
    if entity in (Entity.PARAM, Entity.TAG):
        return (run.params if entity is Entity.PARAM else run.tags).get(key)
    if key == "artifact_uri":
        return f"mlflow-artifacts:/{run.experiment_id}/{run.id}/artifacts"
    value = getattr(run, key)
    return str(value) if key == "status" else value


def _dataset_words(run: Run, key: str) -> list[str]:
    """What `dataset.<key>` is for each input."""
    words = {"name": dataset_of, "digest": _digest, "context": _context}[key]
    return [words(item) for item in run.inputs]


def _digest(item: RunInput) -> str:
    return item.digest


def _context(item: RunInput) -> str:
    return item.context or item.name


def compares(value: Any, item: Comparison) -> bool:
    """Whether a comparison holds for a value that is there."""
    asked: Any = item.value
    match item.operator:
        case Operator.EQ:
            found = value == asked
        case Operator.NE:
            found = value != asked
        case Operator.LT:
            found = value < asked
        case Operator.LE:
            found = value <= asked
        case Operator.GT:
            found = value > asked
        case Operator.GE:
            found = value >= asked
        case Operator.IN | Operator.NOT_IN:
            found = (value in asked) == (item.operator is Operator.IN)
        case Operator.LIKE:
            found = _pattern(asked).fullmatch(value) is not None
        case _:
            found = _pattern(asked.translate(_LOWER)).fullmatch(value.translate(_LOWER)) is not None
    return bool(found)


@lru_cache(maxsize=100)
def _pattern(pattern: str) -> re.Pattern[str]:
    """`%` stands for any text, `_` for one character; a row of `%` for one, so that no search backtracks for long."""
    shortened = re.sub("%+", "%", pattern)
    return re.compile("".join(_WILD.get(letter, re.escape(letter)) for letter in shortened), re.DOTALL)
