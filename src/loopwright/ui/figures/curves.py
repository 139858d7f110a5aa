"""A metric as a curve: its last value in each bucket of steps, and the band between lowest and highest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from loopwright.track import Curve, Value
from loopwright.ui.figures.drawing import Drawing, colour, layout, safe

_FEW, _NAMED = 60, 8
_BAND, _EDGE = 0.2, 0.45
_MAX_ROWS = 200


def metric_curve(key: str, curves: Mapping[str, Curve], began_ms: Mapping[str, float] | None = None) -> Drawing:
    """A metric by step, for one run or several: a line through the last values, and a band that misses no spike.

    Args:
        key: the metric.
        curves: by the name of a run, what `runs.curve` gives. What is not finite leaves a gap.
        began_ms: by the same names, when each run began, in milliseconds since 1970: the zero of relative time, which
            a page can show in place of steps. Without it that is the first point.
    """
    data: list[dict[str, Any]] = []
    for index, (name, curve) in enumerate(curves.items()):
        if not curve.steps:
            continue
        times = [at / 1000 for at in curve.times_us]
        began = min((began_ms or {}).get(name, times[0]), times[0])
        shared = {"x": curve.steps, "customdata": times, "legendgroup": str(index)}
        meta = {"series": index, "began_ms": began}
        if any(count > 1 for count in curve.counts):
            data += _band(curve, shared, meta, index)
        data.append(_line(safe(name), curve, shared, meta, colour(index)))
    few = len(curves) <= _NAMED
    base = layout(x_title="step", height=260, showlegend=len(curves) > 1 and few)
    base |= {} if few else {"hovermode": "closest"}
    columns, rows = _table(key, curves)
    return Drawing(key, {"data": data, "layout": base}, columns, rows)


def _line(name: str, curve: Curve, shared: Mapping[str, Any], meta: Mapping[str, Any], shade: str) -> dict[str, Any]:
    values = _finite(curve.values)
    ranges = [
        f" ({float(low):.4g} to {float(high):.4g})" if count > 1 else ""
        for low, high, count in zip(curve.lows, curve.highs, curve.counts, strict=True)
    ]
    return {
        **shared,
        "type": "scatter",
        "mode": "lines+markers" if len(values) <= _FEW else "lines",
        "name": name,
        "y": values,
        "text": ranges,
        "hovertemplate": "%{y:.5g}%{text}",
        "line": {"width": 1.6, "color": shade},
        "marker": {"size": 5, "color": shade},
        "meta": {**meta, "role": "line"},
    }


def _band(curve: Curve, shared: Mapping[str, Any], meta: Mapping[str, Any], index: int) -> list[dict[str, Any]]:
    shade, edge_shade = colour(index, _BAND), colour(index, _EDGE)
    edge = {
        **shared,
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 0.8, "color": edge_shade},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [
        {**edge, "y": _finite(curve.lows), "meta": {**meta, "role": "low"}},
        {**edge, "y": _finite(curve.highs), "meta": {**meta, "role": "high"}, "fill": "tonexty", "fillcolor": shade},
    ]


def _finite(values: Sequence[Value]) -> list[float | None]:
    return [number if math.isfinite(number := float(value)) else None for value in values]


def _table(key: str, curves: Mapping[str, Curve]) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """The numbers for who reads without JavaScript: of one run the buckets, of several the last values."""
    if len(curves) != 1:
        last = tuple((name, float(found.values[-1])) for name, found in curves.items() if found.values)
        return ("run", f"last {key}"), last
    [curve] = curves.values()
    every = -(-len(curve.steps) // _MAX_ROWS) or 1
    places = range(len(curve.steps) - 1, -1, -every)
    rows = ((curve.steps[at], float(curve.values[at]), float(curve.lows[at]), float(curve.highs[at])) for at in places)
    return ("step", key, "lowest", "highest"), tuple(rows)[::-1]
