"""Loopwright: the whole life of a machine-learning model in one package, with one lineage.

    import loopwright as lw

    with lw.connect() as ws:
        ws.datasets.ingest("flights", "flights.csv")

    with lw.start_run(params={"lr": 0.1}):
        lw.log_metric("loss", 0.25)

Names are loaded when they are first used, so that importing the package costs nothing. What is not named here is in
its room, which is loaded in the same way: `lw.release.Beats`, `lw.loop.on_alert`, `lw.train.uniform`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.core import LoopwrightError
    from loopwright.data import Suite
    from loopwright.features import Entity, FeatureService, FeatureView
    from loopwright.loop import Loop
    from loopwright.models import build_bundle
    from loopwright.monitor import Monitor
    from loopwright.pipeline import context, pipeline, step
    from loopwright.recording import (
        active_run,
        autolog,
        log_artifact,
        log_audio,
        log_figure,
        log_image,
        log_metric,
        log_metrics,
        log_params,
        log_table,
        log_text,
        set_tags,
        start_run,
    )
    from loopwright.server import connect

__version__ = "0.1.0"

_HOMES = {
    "core": ("LoopwrightError",),
    "data": ("Suite",),
    "features": ("Entity", "FeatureService", "FeatureView"),
    "loop": ("Loop",),
    "models": ("build_bundle",),
    "monitor": ("Monitor",),
    "pipeline": ("context", "pipeline", "step"),
    "recording": (
        "active_run",
        "autolog",
        "log_artifact",
        "log_audio",
        "log_figure",
        "log_image",
        "log_metric",
        "log_metrics",
        "log_params",
        "log_table",
        "log_text",
        "set_tags",
        "start_run",
    ),
    "server": ("connect",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ROOMS = frozenset((*_HOMES, "connect", "govern", "release", "serve", "stats", "store", "track", "train"))

__all__ = [
    "Entity",
    "FeatureService",
    "FeatureView",
    "Loop",
    "LoopwrightError",
    "Monitor",
    "Suite",
    "active_run",
    "autolog",
    "build_bundle",
    "connect",
    "context",
    "log_artifact",
    "log_audio",
    "log_figure",
    "log_image",
    "log_metric",
    "log_metrics",
    "log_params",
    "log_table",
    "log_text",
    "pipeline",
    "set_tags",
    "start_run",
    "step",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        if name not in _ROOMS:  # a name that is also a room's stays the room, which can be called
            globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, "__version__"})
