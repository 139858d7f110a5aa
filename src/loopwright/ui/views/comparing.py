"""Runs beside each other: what differs, their curves, and figures over many of them."""

from __future__ import annotations

from typing import Any

from loopwright.core import Invalid
from loopwright.server import Call
from loopwright.track import MetricDifference, Run
from loopwright.ui import curves
from loopwright.ui.columns import plain_metrics
from loopwright.ui.figures import Drawing, scatter
from loopwright.ui.page import View, attempt
from loopwright.ui.parallel import Parallel, parallel

_AXES = 8
_CODE_RUNS = 6
_CHARTED_RUNS = 20
Axes = dict[str, list[float | str | None]]


async def compare(call: Call) -> View:
    """Runs beside each other: only what differs, unless everything was asked for."""
    query = call.request.query_params
    ids = list(dict.fromkeys(query.getlist("run")))
    if len(ids) < 2:
        raise Invalid(f"{len(ids)} runs are chosen", next_step="choose two or more in the table of runs")
    everything = query.get("everything") == "1"
    found = await call.ask("runs.compare", runs=ids, everything=everything)
    charts = await _charts(call, found.runs)
    axes = _axes(found.runs)
    figures = _scatter(found.runs, axes, query.get("across", ""), query.get("up", ""), found.metrics)
    values: dict[str, Any] = {
        "comparison": found,
        "ids": ids,
        "everything": everything,
        "charts": charts,
        "parallel": _parallel(found.runs, axes, query.get("up", "")),
        "code": await _code(call, found.runs),
        "axes": list(axes),
        "across": query.get("across", ""),
        "up": query.get("up", ""),
        "uncharted": max(0, len(found.runs) - _CHARTED_RUNS),
    }
    drawings = {**figures, **{item.key: item.drawing for item in charts}}
    trail = (("Runs", ("runs",)),)
    scripts = ("charts.js", "compare.js")
    return View(f"{len(ids)} runs compared", "compare.html", values, "runs", trail, scripts=scripts, drawings=drawings)


async def _charts(call: Call, runs: list[Run]) -> list[curves.Chart]:
    """A chart for each metric that has more than one point in one of the runs."""
    shown = runs[:_CHARTED_RUNS]
    several: set[str] = set()
    for run in shown:
        several |= {item.metric for item in await curves.summaries(call, run, curves.keys_of(run)) if item.points > 1}
    return await curves.charts(call, shown, sorted(several))


async def _code(call: Call, runs: list[Run]) -> list[tuple[Run, Any]]:
    """What changed in code, environment and data from the first run to each of the next few."""
    first, *others = runs[: _CODE_RUNS + 1]
    found = []
    for run in others:
        moved, _ = await attempt(call, "pipelines.differences", first=first.id, second=run.id)
        if moved is not None:
            found.append((run, moved))
    return found


def _axes(runs: list[Run]) -> Axes:
    """The params that differ and the metrics, as axes by name."""
    params = sorted({key for run in runs for key in run.params})
    differing = [key for key in params if len({run.params.get(key) for run in runs}) > 1]
    metrics = sorted({key for run in runs for key in plain_metrics(run.metrics)})
    axes: Axes = {f"params.{key}": [run.params.get(key) for run in runs] for key in differing}
    axes.update({f"metrics.{key}": [run.metrics.get(key) for run in runs] for key in metrics})
    return axes


def _parallel(runs: list[Run], axes: Axes, asked: str) -> Parallel | None:
    """Parallel coordinates over the params that differ and the metrics, a few of each, that most runs have: one that
    is missing anywhere leaves that run's line out."""
    common = [name for name, values in axes.items() if 2 * values.count(None) < len(runs)]
    params = [name for name in common if name.startswith("params.")]
    scores = [name for name in common if name.startswith("metrics.")]
    chosen = [*params[: _AXES - 3], *scores[: max(3, _AXES - len(params))]]
    if not scores or len(chosen) < 2:
        return None
    titles = {name: name.partition(".")[2] if _is_alone(name, axes) else name for name in chosen}
    shade = titles.get(asked) or titles[scores[0]]
    named = [(run.id, name) for name, run in curves.names_of(runs).items()]
    return parallel(named, {titles[name]: axes[name] for name in chosen}, shade)


def _scatter(runs: list[Run], axes: Axes, across: str, up: str, metrics: list[MetricDifference]) -> dict[str, Drawing]:
    """One axis against another."""
    scores = [name for name in axes if name.startswith("metrics.")]
    if not scores or len(axes) < 2:
        return {}
    x = across if across in axes else next(name for name in axes if name != scores[0])
    y = up if up in axes else next(name for name in scores if name != x)
    points = list(zip(curves.names_of(runs), axes[x], axes[y], strict=True))
    return {"scatter": scatter(x.partition(".")[2], y.partition(".")[2], points, _ends(y, metrics, len(runs)))}


def _is_alone(name: str, axes: Axes) -> bool:
    """Whether no param and metric of the same key stand for different things."""
    key = name.partition(".")[2]
    return sum(f"{entity}.{key}" in axes for entity in ("params", "metrics")) == 1


def _ends(name: str, metrics: list[MetricDifference], count: int) -> list[tuple[float, float] | None]:
    """The intervals of a metric, where folds or repeats were kept."""
    key = name.partition(".")[2]
    item = next((item for item in metrics if name.startswith("metrics.") and item.key == key), None)
    if item is None or not item.intervals:
        return [None] * count
    return [(found.lower, found.upper) if found else None for found in item.intervals]
