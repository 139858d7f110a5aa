"""Figures in Plotly's JSON form, made without Plotly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MARGIN = {"l": 80, "r": 20, "t": 50, "b": 60}


def confusion_figure(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> dict[str, Any]:
    """How often a class (row) was taken for another (column)."""
    heat = {"type": "heatmap", "z": [list(row) for row in counts], "x": list(labels), "y": list(labels)}
    axes = {"xaxis": {"title": {"text": "predicted"}, "type": "category"}}
    axes["yaxis"] = {"title": {"text": "true"}, "type": "category", "autorange": "reversed"}
    heat |= {"colorscale": "Teal", "texttemplate": "%{z}" if len(labels) <= 20 else ""}
    return {"data": [heat], "layout": {"title": {"text": "Confusion on training rows"}, "margin": _MARGIN, **axes}}


def line_figure(x: Sequence[float], y: Sequence[float], title: str, names: tuple[str, str]) -> dict[str, Any]:
    """One line; `names` are those of the axes."""
    line = {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y)}
    axes = {"xaxis": {"title": {"text": names[0]}}, "yaxis": {"title": {"text": names[1]}}}
    return {"data": [line], "layout": {"title": {"text": title}, "margin": _MARGIN, **axes}}


def bar_figure(names: Sequence[str], values: Sequence[float], title: str) -> dict[str, Any]:
    """The largest 30 of these values as bars, the largest on top."""
    order = sorted(range(len(names)), key=lambda at: -values[at])[:30]
    bars = {"type": "bar", "orientation": "h", "x": [values[at] for at in order], "y": [names[at] for at in order]}
    axis = {"type": "category", "autorange": "reversed", "automargin": True}
    return {"data": [bars], "layout": {"title": {"text": title}, "margin": _MARGIN, "yaxis": axis}}
