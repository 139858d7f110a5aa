"""Tracking: experiments, runs, params, metrics, tags and artifacts, and the search over them.

The face is lazy (PEP 562): importing it loads no SQL.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.track.active import ActiveRun
    from loopwright.track.columns import Columns, columns_of
    from loopwright.track.deliveries import Delivery, Receipt, Recorded, deliver
    from loopwright.track.experiments import ExperimentService
    from loopwright.track.files.model import Entry, Owner, OwnerKind, Part, Upload, parse_owner
    from loopwright.track.files.service import ArtifactService
    from loopwright.track.intake import MetricIntake
    from loopwright.track.logged.model import (
        DatasetFilter,
        LoggedMetric,
        LoggedModel,
        LoggedModelPage,
        LoggedOrder,
        LoggedStatus,
    )
    from loopwright.track.logged.service import LoggedModelService
    from loopwright.track.model import (
        Artifact,
        Curve,
        DatasetSummary,
        DatasetUse,
        Difference,
        Experiment,
        ExperimentPage,
        Lifecycle,
        MetricDifference,
        MetricHistory,
        MetricPoint,
        ModelUse,
        Run,
        RunComparison,
        RunContents,
        RunInput,
        RunPage,
        RunStatus,
        Value,
        View,
    )
    from loopwright.track.search.language import parse_filter
    from loopwright.track.service import RunService

_HOMES = {
    "active": ("ActiveRun",),
    "columns": ("Columns", "columns_of"),
    "deliveries": ("Delivery", "Receipt", "Recorded", "deliver"),
    "intake": ("MetricIntake",),
    "files.model": ("Entry", "Owner", "OwnerKind", "Part", "Upload", "parse_owner"),
    "files.service": ("ArtifactService",),
    "logged.model": (
        "DatasetFilter",
        "LoggedMetric",
        "LoggedModel",
        "LoggedModelPage",
        "LoggedOrder",
        "LoggedStatus",
    ),
    "logged.service": ("LoggedModelService",),
    "experiments": ("ExperimentService",),
    "model": (
        "Artifact",
        "Curve",
        "DatasetSummary",
        "DatasetUse",
        "Difference",
        "Experiment",
        "ExperimentPage",
        "Lifecycle",
        "MetricDifference",
        "MetricHistory",
        "MetricPoint",
        "ModelUse",
        "Run",
        "RunComparison",
        "RunContents",
        "RunInput",
        "RunPage",
        "RunStatus",
        "Value",
        "View",
    ),
    "search.language": ("parse_filter",),
    "service": ("RunService",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ActiveRun",
    "Artifact",
    "ArtifactService",
    "Columns",
    "Curve",
    "DatasetFilter",
    "DatasetSummary",
    "DatasetUse",
    "Delivery",
    "Difference",
    "Entry",
    "Experiment",
    "ExperimentPage",
    "ExperimentService",
    "Lifecycle",
    "LoggedMetric",
    "LoggedModel",
    "LoggedModelPage",
    "LoggedModelService",
    "LoggedOrder",
    "LoggedStatus",
    "MetricDifference",
    "MetricHistory",
    "MetricIntake",
    "MetricPoint",
    "ModelUse",
    "Owner",
    "OwnerKind",
    "Part",
    "Receipt",
    "Recorded",
    "Run",
    "RunComparison",
    "RunContents",
    "RunInput",
    "RunPage",
    "RunService",
    "RunStatus",
    "Upload",
    "Value",
    "View",
    "columns_of",
    "deliver",
    "parse_filter",
    "parse_owner",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
