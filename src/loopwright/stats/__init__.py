"""The arithmetic of judgement: sketches, drift, sequential tests, intervals, metrics. Pure functions of values."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.stats.distinct import DistinctSketch
    from loopwright.stats.frequent import FrequentValues
    from loopwright.stats.moments import Moments, Sufficient
    from loopwright.stats.quantiles import QuantileSketch
    from loopwright.stats.sequential import (
        Decision,
        EventDifference,
        MeanDifference,
        SequentialVerdict,
        error_rate_difference,
        mean_difference,
    )
    from loopwright.stats.sketches import ColumnKind, ColumnSketch, TableSketch

_HOMES = {
    "DistinctSketch": "distinct",
    "FrequentValues": "frequent",
    "Moments": "moments",
    "Sufficient": "moments",
    "QuantileSketch": "quantiles",
    "ColumnKind": "sketches",
    "ColumnSketch": "sketches",
    "TableSketch": "sketches",
    "Decision": "sequential",
    "EventDifference": "sequential",
    "MeanDifference": "sequential",
    "SequentialVerdict": "sequential",
    "error_rate_difference": "sequential",
    "mean_difference": "sequential",
}

__all__ = [
    "ColumnKind",
    "ColumnSketch",
    "Decision",
    "DistinctSketch",
    "EventDifference",
    "FrequentValues",
    "MeanDifference",
    "Moments",
    "QuantileSketch",
    "SequentialVerdict",
    "Sufficient",
    "TableSketch",
    "error_rate_difference",
    "mean_difference",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
