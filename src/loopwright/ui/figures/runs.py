"""Figures of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from loopwright.ui.figures.drawing import Drawing, colour, layout, safe

_MAX_POINTS = 2000
_MAX_ROWS = 200


def metric_history(key: str, series: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Drawing:
    """A metric by step, one line per run.

    Args:
        key: the metric.
        series: by the name of a run, the steps and the values. What is not finite leaves a gap. Of long series about
            2000 points are drawn: the least and the greatest of each stretch.
    """
    data = []
    for index, (name, (steps, values)) in enumerate(series.items()):
        kept = _thinned(values)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(kept) <= 60 else "lines",
                "name": safe(name),
                "x": [steps[place] for place in kept],
                "y": [values[place] if abs(values[place]) < float("inf") else None for place in kept],
                "line": {"width": 1.6, "color": colour(index)},
                "marker": {"size": 5},
            }
        )
    base = layout(x_title="step", height=250, showlegend=len(series) > 1)
    rows = tuple(
        (step, value)
        for steps, values in series.values()
        for step, value in list(zip(steps, values, strict=True))[-_MAX_ROWS:]
    )
    return Drawing(key, {"data": data, "layout": base}, ("step", key), rows if len(series) == 1 else ())


def _thinned(values: Sequence[float]) -> list[int]:
    """The places of the points to draw: all, or the least and greatest of each stretch, so that no spike is lost."""
    if len(values) <= _MAX_POINTS:
        return list(range(len(values)))
    stretch = -(-len(values) // (_MAX_POINTS // 2))
    kept: set[int] = {0, len(values) - 1}
    for start in range(0, len(values), stretch):
        places = range(start, min(start + stretch, len(values)))
        kept.add(min(places, key=values.__getitem__))
        kept.add(max(places, key=values.__getitem__))
    return sorted(kept)


def parallel_coordinates(
    names: Sequence[str], axes: Mapping[str, Sequence[float | str | None]], shade: str = ""
) -> Drawing:
    """One line per run through one axis per param or metric.

    Args:
        names: what the runs are called, in one order.
        axes: by the name of an axis, a value per run. Texts that are all numbers become a numeric axis; other texts
            are places on the axis, in their order. A run without a value on some axis is left out, and counted in the
            title.
        shade: the axis by whose number the lines are coloured; by default the last numeric one.
    """
    whole = [at for at in range(len(names)) if all(values[at] is not None for values in axes.values())]
    columns = {name: [values[at] for at in whole] for name, values in axes.items()}
    dimensions = [_dimension(name, values) for name, values in columns.items()]
    numeric = {str(item["label"]): item["values"] for item in dimensions if "tickvals" not in item}
    by = safe(shade) if safe(shade) in numeric else next(reversed(numeric), "")
    line = {"color": numeric[by], "colorscale": "Viridis", "showscale": True} if by else {"color": colour(0)}
    data = [{"type": "parcoords", "dimensions": dimensions, "line": line}] if whole else []
    missing = len(names) - len(whole)
    title = "Runs by params and metrics" + (f" ({missing} without a value on some axis left out)" if missing else "")
    rows = tuple((names[at], *(columns[name][place] for name in columns)) for place, at in enumerate(whole[:_MAX_ROWS]))
    base = layout(height=360, margin={"l": 70, "r": 40, "t": 50, "b": 30})
    return Drawing(title, {"data": data, "layout": base}, ("run", *columns), rows)


def _dimension(name: str, values: Sequence[float | str | None]) -> dict[str, Any]:
    numbers = [_number(value) for value in values]
    if all(number is not None for number in numbers):
        return {"label": safe(name), "values": numbers}
    words = sorted({str(value) for value in values})
    place = {word: at for at, word in enumerate(words)}
    return {
        "label": safe(name),
        "values": [place[str(value)] for value in values],
        "tickvals": list(range(len(words))),
        "ticktext": [safe(word[:40]) for word in words],
    }


def _number(value: float | str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def scatter(
    x_name: str,
    y_name: str,
    points: Sequence[tuple[str, float | str | None, float | str | None]],
    intervals: Sequence[tuple[float, float] | None] = (),
) -> Drawing:
    """One point per run: a param or metric against another.

    Args:
        points: name, x and y of each run. One whose y is no finite number, or that has no x, is left out; x is an axis
            of words where one of them is no number.
        intervals: of each point the lower and upper end of y, where there is one.
    """
    ends = list(intervals) or [None] * len(points)
    kept = [
        (name, x, number, end)
        for (name, x, y), end in zip(points, ends, strict=True)
        if x is not None and (number := _number(y)) is not None
    ]
    numeric = all(_number(x) is not None for _, x, _, _ in kept)
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": [_number(x) if numeric else safe(str(x)[:60]) for _, x, _, _ in kept],
        "y": [y for _, _, y, _ in kept],
        "text": [safe(name) for name, _, _, _ in kept],
        "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
        "marker": {"size": 8, "color": colour(0)},
    }
    if any(end is not None for _, _, _, end in kept):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [end[1] - y if end else 0.0 for _, _, y, end in kept],
            "arrayminus": [y - end[0] if end else 0.0 for _, _, y, end in kept],
        }
    base = layout(x_title=safe(x_name), y_title=safe(y_name), hovermode="closest", showlegend=False)
    rows = tuple((name, x, y) for name, x, y, _ in kept[:_MAX_ROWS])
    return Drawing(f"{y_name} by {x_name}", {"data": [trace], "layout": base}, ("run", x_name, y_name), rows)
