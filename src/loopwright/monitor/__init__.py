"""Watching endpoints: windows of event time, drift, performance with late labels, alerts, and traces to predictions.

The face is lazy (PEP 562): the words load at once, the services on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.monitor.alerting import About
    from loopwright.monitor.model import (
        Alert,
        AlertState,
        ArmEvidence,
        ArmSpan,
        DriftPolicy,
        FeatureDrift,
        Feedback,
        FeedbackReceipt,
        MetricReport,
        Monitor,
        MonitorInfo,
        PerformancePolicy,
        PredictionRecord,
        PredictionSummary,
        PredictionUse,
        TraceReport,
        VariantReport,
        Verdict,
        WindowReport,
    )
    from loopwright.monitor.scored import ScoredRows
    from loopwright.monitor.service import MonitorService
    from loopwright.monitor.tracing import TraceService

_HOMES = {
    "alerting": ("About",),
    "model": (
        "Alert",
        "AlertState",
        "ArmEvidence",
        "ArmSpan",
        "DriftPolicy",
        "FeatureDrift",
        "Feedback",
        "FeedbackReceipt",
        "MetricReport",
        "Monitor",
        "MonitorInfo",
        "PerformancePolicy",
        "PredictionRecord",
        "PredictionSummary",
        "PredictionUse",
        "TraceReport",
        "VariantReport",
        "Verdict",
        "WindowReport",
    ),
    "scored": ("ScoredRows",),
    "service": ("MonitorService",),
    "tracing": ("TraceService",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "About",
    "Alert",
    "AlertState",
    "ArmEvidence",
    "ArmSpan",
    "DriftPolicy",
    "FeatureDrift",
    "Feedback",
    "FeedbackReceipt",
    "MetricReport",
    "Monitor",
    "MonitorInfo",
    "MonitorService",
    "PerformancePolicy",
    "PredictionRecord",
    "PredictionSummary",
    "PredictionUse",
    "ScoredRows",
    "TraceReport",
    "TraceService",
    "VariantReport",
    "Verdict",
    "WindowReport",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
