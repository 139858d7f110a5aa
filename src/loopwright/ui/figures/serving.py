"""Figures of what is served: traffic, drift and performance over time, with the decisions marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from loopwright.ui.figures.drawing import Drawing, Mark, colour, layout, safe, with_marks

_MAX_FEATURES = 25
_STRONG_PSI = 1.0  # far beyond the 0.25 that is called a large shift; stronger ones look the same


def traffic_over_time(
    changes: Sequence[tuple[datetime, Mapping[str, float]]], until: datetime | None = None, marks: Sequence[Mark] = ()
) -> Drawing:
    """The share of traffic of each model version as steps.

    Args:
        changes: when the shares changed, oldest first, and the shares from then on, by model ref.
        until: where the last shares end; by default with the last change.
    """
    points = list(changes)
    if points and until is not None and until > points[-1][0]:
        points.append((until, points[-1][1]))
    models = list(dict.fromkeys(model for _, shares in points for model in shares))
    times = [at.isoformat() for at, _ in points]
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": safe(model.partition(":")[2] or model),
            "x": times,
            "y": [100 * shares.get(model, 0.0) for _, shares in points],
            "stackgroup": "shares",
            "line": {"shape": "hv", "width": 0.6, "color": colour(index)},
            "hovertemplate": "%{y:.0f} %",
        }
        for index, model in enumerate(models)
    ]
    base = layout(y_title="share of traffic, %")
    base["yaxis"] |= {"range": [0, 100]}
    rows = tuple((at, *(shares.get(model, 0.0) for model in models)) for at, shares in points)
    columns = ("from", *(model.partition(":")[2] or model for model in models))
    return Drawing("Traffic", {"data": data, "layout": with_marks(base, marks)}, columns, _dated(rows))


def drift_over_time(windows: Iterable[Any], marks: Sequence[Mark] = ()) -> Drawing:
    """The effect (population stability index) of each feature in each window; a dot marks what counts as drifted.

    Args:
        windows: window reports with `start` and `drift`, in any order; at most 25 features are shown, those with the
            largest effects.
    """
    ordered = sorted((window for window in windows if window.drift), key=lambda window: window.start)
    largest: dict[str, float] = {}
    for window in ordered:
        for item in window.drift:
            largest[item.feature] = max(largest.get(item.feature, 0.0), item.effect)
    features = sorted(sorted(largest, key=lambda name: -largest[name])[:_MAX_FEATURES], key=lambda name: largest[name])
    base = layout(height=max(220, 90 + 20 * len(features)), hovermode="closest")
    base["yaxis"] = {"automargin": True, "tickfont": {"size": 11}, "showgrid": False}
    base["margin"] = {**base["margin"], "l": 120}
    rows = tuple(
        (window.start, item.feature, item.effect, item.adjusted)
        for window in ordered
        for item in window.drift
        if item.drifted
    )
    columns = ("window", "drifted feature", "PSI", "adjusted p")
    data = _drift_traces(ordered, features)
    return Drawing("Drift of inputs", {"data": data, "layout": with_marks(base, marks)}, columns, _dated(rows))


def _drift_traces(windows: Sequence[Any], features: Sequence[str]) -> list[dict[str, Any]]:
    """The map of effects, and a dot where one counts as drift."""
    by_window = [{item.feature: item for item in window.drift} for window in windows]
    times = [window.start.isoformat() for window in windows]
    drifted = [
        (time, safe(feature))
        for time, found in zip(times, by_window, strict=True)
        for feature in features
        if feature in found and found[feature].drifted
    ]
    effects = {
        "type": "heatmap",
        "x": times,
        "y": [safe(feature) for feature in features],
        "z": [[found[name].effect if name in found else None for found in by_window] for name in features],
        "zmin": 0,
        "zmax": _STRONG_PSI,
        "colorscale": [[0, "--card"], [0.4, "--c6"], [1, "--c5"]],
        "colorbar": {"title": {"text": "PSI"}, "thickness": 10, "outlinewidth": 0},
        "hovertemplate": "%{y}<br>%{x}<br>PSI %{z:.3f}<extra></extra>",
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "drifted",
        "x": [time for time, _ in drifted],
        "y": [feature for _, feature in drifted],
        "marker": {"size": 5, "color": "--text"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [effects, dots]


def performance_over_time(windows: Iterable[Any], metric: str, marks: Sequence[Mark] = ()) -> Drawing:
    """A metric of each window with its interval, coloured by the version that answered, beside its reference.

    Args:
        windows: window reports with `start`, `model` and `performance`, in any order.
        metric: the metric's name.
    """
    ordered = sorted((w for w in windows if metric in w.performance), key=lambda window: window.start)
    models = list(dict.fromkeys(window.model for window in ordered))
    data: list[dict[str, Any]] = []
    for index, model in enumerate(models):
        mine = [(window.start, window.performance[metric]) for window in ordered if window.model == model]
        data.append(_series(model, mine, colour(index)))
        if any(report.reference is not None for _, report in mine):
            data.append(_reference(model, mine, colour(index)))
    rows = tuple(
        (
            w.start,
            w.model,
            w.performance[metric].value,
            w.performance[metric].lower,
            w.performance[metric].upper,
            w.performance[metric].n,
        )
        for w in ordered
    )
    columns = ("window", "model", metric, "lower", "upper", "labels")
    figure = {"data": data, "layout": with_marks(layout(y_title=safe(metric)), marks)}
    return Drawing(f"Performance: {metric}", figure, columns, _dated(rows))


def _series(model: str, points: Sequence[tuple[datetime, Any]], shade: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+lines",
        "name": safe(model.partition(":")[2] or model),
        "x": [at.isoformat() for at, _ in points],
        "y": [report.value for _, report in points],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [report.upper - report.value for _, report in points],
            "arrayminus": [report.value - report.lower for _, report in points],
            "thickness": 1,
            "width": 0,
            "color": shade,
        },
        "marker": {"size": 6, "color": shade},
        "line": {"width": 1.2, "color": shade},
        "connectgaps": False,
    }


def _reference(model: str, points: Sequence[tuple[datetime, Any]], shade: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{safe(model.partition(':')[2] or model)} in training",
        "x": [at.isoformat() for at, _ in points],
        "y": [report.reference for _, report in points],
        "line": {"width": 1, "dash": "dash", "color": shade},
        "opacity": 0.6,
        "hoverinfo": "skip",
    }


def _dated(rows: Iterable[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        tuple(f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value for value in row) for row in rows
    )
