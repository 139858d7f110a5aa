"""Tracking: experiments, runs, params, metrics, tags and artifacts, and the search over them.

The face is lazy (PEP 562): importing it loads no SQL.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.track.active import ActiveRun
    from loopwright.track.adopting import (
        AdoptedExperiment,
        AdoptedModel,
        AdoptedRun,
        AdoptionService,
        KnownRun,
    )
    from loopwright.track.artifacts import files_to_keep
    from loopwright.track.autolog import (
        AUTOLOG,
        AutologOptions,
        Integration,
        Patches,
        Training,
        TrainingLog,
        autolog_off,
        autolog_on,
        autologged,
    )
    from loopwright.track.batches import Batch
    from loopwright.track.collecting import refs_in_use
    from loopwright.track.columns import Columns, Mixed, columns_of
    from loopwright.track.deliveries import Delivery, Receipt, Recorded, deliver
    from loopwright.track.evalsets.model import (
        EvalRecord,
        EvalRecordPage,
        EvalSet,
        EvalSetPage,
        EvalUpsert,
        NewEvalRecord,
    )
    from loopwright.track.evalsets.service import EvalSetService
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
    from loopwright.track.metrics import mixed
    from loopwright.track.model import (
        Artifact,
        Curve,
        DatasetSummary,
        DatasetUse,
        Difference,
        Experiment,
        ExperimentCounts,
        ExperimentPage,
        Lifecycle,
        MetricDifference,
        MetricHistory,
        MetricInterval,
        MetricPoint,
        ModelUse,
        Run,
        RunComparison,
        RunContents,
        RunInput,
        RunPage,
        RunStatus,
        TimedPoint,
        Value,
        View,
        WholeRun,
    )
    from loopwright.track.quick import QuickWriter
    from loopwright.track.recorder import Recorder, begin_run
    from loopwright.track.search.language import parse_filter
    from loopwright.track.service import RunService
    from loopwright.track.spool.applying import LocalTarget, apply_batch, keep_file
    from loopwright.track.spool.contract import SpoolTarget
    from loopwright.track.spool.folders import About, spool_about
    from loopwright.track.spool.notes import FileKept, Outcome, SpoolBatch
    from loopwright.track.spool.offline import OfflineRuns
    from loopwright.track.spool.spools import Spool
    from loopwright.track.spool.sweeping import deliver_dead, left_behind
    from loopwright.track.traces.filed import spans_of_file
    from loopwright.track.traces.model import (
        SPANS_FILE,
        Assessment,
        AssessmentChange,
        AssessmentKind,
        NewAssessment,
        NewTrace,
        Span,
        SpanEvent,
        SpanLink,
        SpansKept,
        SpanStatus,
        Trace,
        TracePage,
        TraceState,
    )
    from loopwright.track.traces.service import RequestTraceService
    from loopwright.track.traces.spans import is_tag
    from loopwright.track.vocabulary import KeysInUse

_HOMES = {
    "active": ("ActiveRun",),
    "adopting": ("AdoptedExperiment", "AdoptedModel", "AdoptedRun", "AdoptionService", "KnownRun"),
    "autolog": (
        "AUTOLOG",
        "AutologOptions",
        "Integration",
        "Patches",
        "Training",
        "TrainingLog",
        "autolog_off",
        "autolog_on",
        "autologged",
    ),
    "artifacts": ("files_to_keep",),
    "batches": ("Batch",),
    "collecting": ("refs_in_use",),
    "columns": ("Columns", "Mixed", "columns_of"),
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
    "metrics": ("mixed",),
    "model": (
        "Artifact",
        "Curve",
        "DatasetSummary",
        "DatasetUse",
        "Difference",
        "Experiment",
        "ExperimentCounts",
        "ExperimentPage",
        "Lifecycle",
        "MetricDifference",
        "MetricHistory",
        "MetricInterval",
        "MetricPoint",
        "ModelUse",
        "Run",
        "RunComparison",
        "RunContents",
        "RunInput",
        "RunPage",
        "RunStatus",
        "TimedPoint",
        "Value",
        "View",
        "WholeRun",
    ),
    "search.language": ("parse_filter",),
    "vocabulary": ("KeysInUse",),
    "quick": ("QuickWriter",),
    "recorder": ("Recorder", "begin_run"),
    "service": ("RunService",),
    "spool.applying": ("LocalTarget", "apply_batch", "keep_file"),
    "spool.contract": ("SpoolTarget",),
    "spool.folders": ("About", "spool_about"),
    "spool.offline": ("OfflineRuns",),
    "spool.notes": ("FileKept", "Outcome", "SpoolBatch"),
    "spool.spools": ("Spool",),
    "spool.sweeping": ("deliver_dead", "left_behind"),
    "evalsets.model": (
        "EvalRecord",
        "EvalRecordPage",
        "EvalSet",
        "EvalSetPage",
        "EvalUpsert",
        "NewEvalRecord",
    ),
    "evalsets.service": ("EvalSetService",),
    "traces.filed": ("spans_of_file",),
    "traces.model": (
        "SPANS_FILE",
        "Assessment",
        "AssessmentChange",
        "AssessmentKind",
        "NewAssessment",
        "NewTrace",
        "Span",
        "SpanEvent",
        "SpanLink",
        "SpansKept",
        "SpanStatus",
        "Trace",
        "TracePage",
        "TraceState",
    ),
    "traces.service": ("RequestTraceService",),
    "traces.spans": ("is_tag",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AUTOLOG",
    "SPANS_FILE",
    "About",
    "ActiveRun",
    "AdoptedExperiment",
    "AdoptedModel",
    "AdoptedRun",
    "AdoptionService",
    "Artifact",
    "ArtifactService",
    "Assessment",
    "AssessmentChange",
    "AssessmentKind",
    "AutologOptions",
    "BaselineDelta",
    "Batch",
    "Columns",
    "Curve",
    "DatasetFilter",
    "DatasetSummary",
    "DatasetUse",
    "Delivery",
    "Difference",
    "Entry",
    "EvalRecord",
    "EvalRecordPage",
    "EvalSet",
    "EvalSetPage",
    "EvalSetService",
    "EvalUpsert",
    "Experiment",
    "ExperimentCounts",
    "ExperimentPage",
    "ExperimentService",
    "FileKept",
    "Integration",
    "KeysInUse",
    "KnownRun",
    "Lifecycle",
    "LocalTarget",
    "LoggedMetric",
    "LoggedModel",
    "LoggedModelPage",
    "LoggedModelService",
    "LoggedOrder",
    "LoggedStatus",
    "MetricDifference",
    "MetricHistory",
    "MetricIntake",
    "MetricInterval",
    "MetricPoint",
    "Mixed",
    "ModelUse",
    "NewAssessment",
    "NewEvalRecord",
    "NewTrace",
    "OfflineRuns",
    "Outcome",
    "Owner",
    "OwnerKind",
    "Part",
    "Patches",
    "QuickWriter",
    "Receipt",
    "Recorded",
    "Recorder",
    "RequestTraceService",
    "Run",
    "RunComparison",
    "RunContents",
    "RunInput",
    "RunPage",
    "RunService",
    "RunStatus",
    "Span",
    "SpanEvent",
    "SpanLink",
    "SpanStatus",
    "SpansKept",
    "Spool",
    "SpoolBatch",
    "SpoolTarget",
    "TimedPoint",
    "Trace",
    "TracePage",
    "TraceState",
    "Training",
    "TrainingLog",
    "Upload",
    "Value",
    "View",
    "WholeRun",
    "apply_batch",
    "autolog_off",
    "autolog_on",
    "autologged",
    "begin_run",
    "columns_of",
    "deliver",
    "deliver_dead",
    "files_to_keep",
    "is_tag",
    "keep_file",
    "left_behind",
    "mixed",
    "parse_filter",
    "parse_owner",
    "refs_in_use",
    "spans_of_file",
    "spool_about",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
