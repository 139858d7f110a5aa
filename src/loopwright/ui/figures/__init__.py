"""Figures as Plotly's JSON: the same functions serve pages, notebooks and reports."""

from loopwright.ui.figures.curves import metric_curve
from loopwright.ui.figures.drawing import MAX_MARKS, Drawing, Mark
from loopwright.ui.figures.runs import metric_history, parallel_coordinates, scatter
from loopwright.ui.figures.serving import drift_over_time, performance_over_time, traffic_over_time

__all__ = [
    "MAX_MARKS",
    "Drawing",
    "Mark",
    "drift_over_time",
    "metric_curve",
    "metric_history",
    "parallel_coordinates",
    "performance_over_time",
    "scatter",
    "traffic_over_time",
]
