"""Training: hyperparameter search with pruning, and comparison with a pinned baseline.

The face is lazy (PEP 562): importing it loads neither SQL nor Optuna.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.train.model import (
        Answer,
        BaselineComparison,
        Direction,
        MetricComparison,
        Pruner,
        SearchResult,
        TrialRun,
        TrialState,
    )
    from loopwright.train.service import TrainService
    from loopwright.train.spaces import Choice, Integer, Space, Uniform, choice, integer, parse_space, uniform
    from loopwright.train.trial import Trial

_HOMES = {
    "model": (
        "Answer",
        "BaselineComparison",
        "Direction",
        "MetricComparison",
        "Pruner",
        "SearchResult",
        "TrialRun",
        "TrialState",
    ),
    "service": ("TrainService",),
    "spaces": ("Choice", "Integer", "Space", "Uniform", "choice", "integer", "parse_space", "uniform"),
    "trial": ("Trial",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "BaselineComparison",
    "Choice",
    "Direction",
    "Integer",
    "MetricComparison",
    "Pruner",
    "SearchResult",
    "Space",
    "TrainService",
    "Trial",
    "TrialRun",
    "TrialState",
    "Uniform",
    "choice",
    "integer",
    "parse_space",
    "uniform",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
