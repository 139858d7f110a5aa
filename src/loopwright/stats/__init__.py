"""The arithmetic of judgement: sketches, drift, sequential tests, intervals, metrics. Pure functions of values."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.stats.bins import BinnedColumn, BinnedTable
    from loopwright.stats.delong import auc_difference, auc_interval
    from loopwright.stats.discovery import adjusted_p_values, benjamini_hochberg
    from loopwright.stats.distinct import DistinctSketch
    from loopwright.stats.drift import DriftResult, Effect, compare, jensen_shannon, population_stability
    from loopwright.stats.frequent import FrequentValues
    from loopwright.stats.intervals import (
        Interval,
        difference_interval,
        mean_interval,
        paired_bootstrap,
        paired_mean_difference,
        proportion_difference,
        wilson,
    )
    from loopwright.stats.latency import LatencyCounts
    from loopwright.stats.metrics import auc, classification_metrics, losses, multiclass_metrics, regression_metrics
    from loopwright.stats.moments import Moments, Sufficient
    from loopwright.stats.power import detectable_effect, power_of, sample_size
    from loopwright.stats.quantiles import QuantileSketch
    from loopwright.stats.scores import ScoreCounts, as_labels, is_lower_better
    from loopwright.stats.sequential import (
        Decision,
        EventDifference,
        MeanDifference,
        SequentialVerdict,
        error_rate_difference,
        event_rate_sequence,
        mean_difference,
    )
    from loopwright.stats.sketches import ColumnKind, ColumnSketch, TableSketch

_HOMES = {
    "BinnedColumn": "bins",
    "BinnedTable": "bins",
    "auc_difference": "delong",
    "auc_interval": "delong",
    "adjusted_p_values": "discovery",
    "benjamini_hochberg": "discovery",
    "DistinctSketch": "distinct",
    "DriftResult": "drift",
    "Effect": "drift",
    "compare": "drift",
    "jensen_shannon": "drift",
    "population_stability": "drift",
    "FrequentValues": "frequent",
    "Interval": "intervals",
    "difference_interval": "intervals",
    "mean_interval": "intervals",
    "paired_bootstrap": "intervals",
    "paired_mean_difference": "intervals",
    "proportion_difference": "intervals",
    "wilson": "intervals",
    "LatencyCounts": "latency",
    "auc": "metrics",
    "classification_metrics": "metrics",
    "losses": "metrics",
    "multiclass_metrics": "metrics",
    "regression_metrics": "metrics",
    "Moments": "moments",
    "Sufficient": "moments",
    "detectable_effect": "power",
    "power_of": "power",
    "sample_size": "power",
    "QuantileSketch": "quantiles",
    "ScoreCounts": "scores",
    "as_labels": "scores",
    "is_lower_better": "scores",
    "Decision": "sequential",
    "EventDifference": "sequential",
    "MeanDifference": "sequential",
    "SequentialVerdict": "sequential",
    "error_rate_difference": "sequential",
    "event_rate_sequence": "sequential",
    "mean_difference": "sequential",
    "ColumnKind": "sketches",
    "ColumnSketch": "sketches",
    "TableSketch": "sketches",
}

__all__ = [
    "BinnedColumn",
    "BinnedTable",
    "ColumnKind",
    "ColumnSketch",
    "Decision",
    "DistinctSketch",
    "DriftResult",
    "Effect",
    "EventDifference",
    "FrequentValues",
    "Interval",
    "LatencyCounts",
    "MeanDifference",
    "Moments",
    "QuantileSketch",
    "ScoreCounts",
    "SequentialVerdict",
    "Sufficient",
    "TableSketch",
    "adjusted_p_values",
    "as_labels",
    "auc",
    "auc_difference",
    "auc_interval",
    "benjamini_hochberg",
    "classification_metrics",
    "compare",
    "detectable_effect",
    "difference_interval",
    "error_rate_difference",
    "event_rate_sequence",
    "is_lower_better",
    "jensen_shannon",
    "losses",
    "mean_difference",
    "mean_interval",
    "multiclass_metrics",
    "paired_bootstrap",
    "paired_mean_difference",
    "population_stability",
    "power_of",
    "proportion_difference",
    "regression_metrics",
    "sample_size",
    "wilson",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
