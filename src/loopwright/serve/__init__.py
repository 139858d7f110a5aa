"""Serving: the inference process, its prediction log, and clients. No SQL, no tracking, no pages in here.

The process runs as `python -m loopwright.serve`; `InferenceProcess` starts and stops it. The face is lazy (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.serve.arguments import ProcessSettings, bytes_of
    from loopwright.serve.batch import (
        RecordedScoring,
        ScoringDone,
        ScoringOptions,
        ScoringOrder,
        ScoringReport,
        ScoringService,
        open_rows,
        profile_of,
        score,
        scorer_of,
        threads_of,
    )
    from loopwright.serve.client import InferenceClient, Inferred, Predicted
    from loopwright.serve.containers import ImageReport, write_context, write_image
    from loopwright.serve.edge import (
        Budget,
        EdgePlan,
        EdgeReport,
        Precision,
        export_edge,
        export_mlserver,
        export_triton,
    )
    from loopwright.serve.feedback import FeedbackRecord, FeedbackRow, deliver_feedback, feedback_rows, pack_feedback
    from loopwright.serve.launch import InferenceProcess
    from loopwright.serve.model import (
        LogPolicy,
        Prediction,
        PredictionStatus,
        ServedEndpoint,
        ServingState,
        Variant,
    )
    from loopwright.serve.prediction_log import PredictionLog, Record, predictions_between, read_predictions
    from loopwright.serve.rest.contract import contract_from
    from loopwright.serve.state import read_state, write_state
    from loopwright.serve.sticky import assign
    from loopwright.serve.tls import check_tls, trusting
    from loopwright.serve.wire import refusal
    from loopwright.serve.workers.listening import listen
    from loopwright.serve.workers.supervisor import WorkerPlan, Workers

_HOMES = {
    "batch": (
        "RecordedScoring",
        "ScoringDone",
        "ScoringOptions",
        "ScoringOrder",
        "ScoringReport",
        "ScoringService",
        "open_rows",
        "profile_of",
        "score",
        "scorer_of",
        "threads_of",
    ),
    "containers": ("ImageReport", "write_context", "write_image"),
    "edge": ("Budget", "EdgePlan", "EdgeReport", "Precision", "export_edge", "export_mlserver", "export_triton"),
    "rest.contract": ("contract_from",),
    "arguments": ("ProcessSettings", "bytes_of"),
    "tls": ("check_tls", "trusting"),
    "workers.listening": ("listen",),
    "workers.supervisor": ("WorkerPlan", "Workers"),
    "sticky": ("assign",),
    "wire": ("refusal",),
    "client": ("InferenceClient", "Inferred", "Predicted"),
    "feedback": ("FeedbackRecord", "FeedbackRow", "deliver_feedback", "feedback_rows", "pack_feedback"),
    "launch": ("InferenceProcess",),
    "model": ("LogPolicy", "Prediction", "PredictionStatus", "ServedEndpoint", "ServingState", "Variant"),
    "prediction_log": ("PredictionLog", "Record", "predictions_between", "read_predictions"),
    "state": ("read_state", "write_state"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Budget",
    "EdgePlan",
    "EdgeReport",
    "FeedbackRecord",
    "FeedbackRow",
    "ImageReport",
    "InferenceClient",
    "InferenceProcess",
    "Inferred",
    "LogPolicy",
    "Precision",
    "Predicted",
    "Prediction",
    "PredictionLog",
    "PredictionStatus",
    "ProcessSettings",
    "Record",
    "RecordedScoring",
    "ScoringDone",
    "ScoringOptions",
    "ScoringOrder",
    "ScoringReport",
    "ScoringService",
    "ServedEndpoint",
    "ServingState",
    "Variant",
    "WorkerPlan",
    "Workers",
    "assign",
    "bytes_of",
    "check_tls",
    "contract_from",
    "deliver_feedback",
    "export_edge",
    "export_mlserver",
    "export_triton",
    "feedback_rows",
    "listen",
    "open_rows",
    "pack_feedback",
    "predictions_between",
    "profile_of",
    "read_predictions",
    "read_state",
    "refusal",
    "score",
    "scorer_of",
    "threads_of",
    "trusting",
    "write_context",
    "write_image",
    "write_state",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
