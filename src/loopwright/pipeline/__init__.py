"""Pipelines: cached steps in worker processes, with code, environment and data of every run captured.

The face is lazy (PEP 562): importing it loads no SQL and no data-frame library.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.pipeline.codecs import Codec, codec
    from loopwright.pipeline.definition import Output, Pipeline, Step, pipeline, step
    from loopwright.pipeline.environment import Environment, current_environment
    from loopwright.pipeline.failures import StepFailed
    from loopwright.pipeline.model import (
        Capture,
        CodeDifference,
        Comparison,
        FileDifference,
        Graph,
        Hardware,
        PipelineRecord,
        PipelineRun,
        Reproduction,
        RunRequest,
        StepOptions,
        StepRun,
        StepStatus,
        Stored,
        Verdict,
    )
    from loopwright.pipeline.running import Session
    from loopwright.pipeline.service import PipelineService
    from loopwright.pipeline.step_context import StepContext, TrialPruned, context

_HOMES = {
    "codecs": ("Codec", "codec"),
    "step_context": ("StepContext", "TrialPruned", "context"),
    "definition": ("Output", "Pipeline", "Step", "pipeline", "step"),
    "environment": ("Environment", "current_environment"),
    "failures": ("StepFailed",),
    "model": (
        "Capture",
        "CodeDifference",
        "Comparison",
        "FileDifference",
        "Graph",
        "Hardware",
        "PipelineRecord",
        "PipelineRun",
        "Reproduction",
        "RunRequest",
        "StepOptions",
        "StepRun",
        "StepStatus",
        "Stored",
        "Verdict",
    ),
    "compute": ("ray_on",),
    "running": ("Session",),
    "service": ("PipelineService",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Capture",
    "CodeDifference",
    "Codec",
    "Comparison",
    "Environment",
    "FileDifference",
    "Graph",
    "Hardware",
    "Output",
    "Pipeline",
    "PipelineRecord",
    "PipelineRun",
    "PipelineService",
    "Reproduction",
    "RunRequest",
    "Session",
    "Step",
    "StepContext",
    "StepFailed",
    "StepOptions",
    "StepRun",
    "StepStatus",
    "Stored",
    "TrialPruned",
    "Verdict",
    "codec",
    "context",
    "current_environment",
    "pipeline",
    "ray_on",
    "step",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{home}")
    value = getattr(module, name)
    globals()[name] = value
    return value


class _CallableRoom(ModuleType):
    """This package, which can be called as the decorator of its name.

    Importing a package binds it in its parent, so that `loopwright.pipeline` is this module however `lw.pipeline` was
    meant. Both meanings therefore work on the same object.
    """

    def __call__(self, function: Any) -> Any:
        return self.pipeline(function)


sys.modules[__name__].__class__ = _CallableRoom
