"""Figures of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
