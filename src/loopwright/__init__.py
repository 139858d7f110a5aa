"""Loopwright: the whole life of a machine-learning model in one package, with one lineage.

    import loopwright as lw

    with lw.connect() as ws:
        ws.datasets.ingest("flights", "flights.csv")

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.core import LoopwrightError
    from loopwright.data import Suite
    from loopwright.features import Entity, FeatureService, FeatureView
    from loopwright.loop import Loop, every, on_alert, on_new_version
    from loopwright.models import build_bundle
    from loopwright.monitor import DriftPolicy, Monitor, PerformancePolicy
    from loopwright.pipeline import context, pipeline, step
    from loopwright.release import AtLeast, Beats, Guard, RolloutPlan
    from loopwright.server import connect
    from loopwright.train import choice, integer, uniform

__version__ = "0.1.0"

_HOMES = {
    "core": ("LoopwrightError",),
    "data": ("Suite",),
    "features": ("Entity", "FeatureService", "FeatureView"),
    "loop": ("Loop", "every", "on_alert", "on_new_version"),
    "models": ("build_bundle",),
    "monitor": ("DriftPolicy", "Monitor", "PerformancePolicy"),
    "pipeline": ("context", "pipeline", "step"),
    "release": ("AtLeast", "Beats", "Guard", "RolloutPlan"),
    "server": ("connect",),
    "train": ("choice", "integer", "uniform"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AtLeast",
    "Beats",
    "DriftPolicy",
    "Entity",
    "FeatureService",
    "FeatureView",
    "Guard",
    "Loop",
    "LoopwrightError",
    "Monitor",
    "PerformancePolicy",
    "RolloutPlan",
    "Suite",
    "build_bundle",
    "choice",
    "connect",
    "context",
    "every",
    "integer",
    "on_alert",
    "on_new_version",
    "pipeline",
    "step",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        # A room (`loopwright.data`) is found by the import system; it also works as an attribute.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    if name not in _HOMES:  # a name that is also a room's stays the room, which can be called
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
