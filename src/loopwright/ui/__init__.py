"""The pages: views ask operations, templates lay values out, figures draw. Names load their own part only."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.ui.figures import (
        Drawing,
        Mark,
        drift_over_time,
        metric_curve,
        metric_history,
        parallel_coordinates,
        performance_over_time,
        scatter,
        traffic_over_time,
    )
    from loopwright.ui.markdown import as_html
    from loopwright.ui.routes import page_routes

_HOMES = {
    "figures": (
        "Drawing",
        "Mark",
        "drift_over_time",
        "metric_curve",
        "metric_history",
        "parallel_coordinates",
        "performance_over_time",
        "scatter",
        "traffic_over_time",
    ),
    "markdown": ("as_html",),
    "routes": ("page_routes",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Drawing",
    "Mark",
    "as_html",
    "drift_over_time",
    "metric_curve",
    "metric_history",
    "page_routes",
    "parallel_coordinates",
    "performance_over_time",
    "scatter",
    "traffic_over_time",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value
