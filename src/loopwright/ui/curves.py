"""Curves on pages: which metrics are drawn at once, which when they come into sight, and small ones in tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from loopwright.core import Invalid, digest_bytes
from loopwright.server import Call
from loopwright.track import Curve, Run
from loopwright.ui.figures import Drawing, metric_curve
from loopwright.ui.links import path_to
from loopwright.ui.page import json_reply

SYSTEM = "system/"
AT_ONCE = 8
_UNGROUPED = 8
_MOST = 300
_BUCKETS = 600
_SMALL = 60
_MAX_RUNS = 100
_WIDTH, _HEIGHT = 120, 26


class Chart(msgspec.Struct, frozen=True):
    """A place for a figure: the metric, the address that gives it, and the drawing if it is drawn at once."""

    key: str
    metric: str
    url: str
    group: str = ""
    drawing: Drawing | None = None


class Summary(msgspec.Struct, frozen=True):
    """A metric in one line of a table; `trend` is a line for an SVG picture of 120 × 26."""

    metric: str
    last: str | float
    low: float
    high: float
    points: int
    trend: str


def keys_of(run: Run, system: bool = False) -> list[str]:
    """The metrics of a run: its own, or those of the machine it ran on."""
    return [key for key in sorted({*run.metrics, *run.not_finite}) if key.startswith(SYSTEM) is system][:_MOST]


async def summaries(call: Call, run: Run, keys: Sequence[str]) -> list[Summary]:
    """Each of these metrics in a line."""
    curves = await call.ask("runs.curve", run=run.id, keys=list(keys), buckets=_SMALL) if keys else []
    return [_summary(curve) for curve in curves if curve.steps]


def _summary(curve: Curve) -> Summary:
    lows, highs = ([float(value) for value in side] for side in (curve.lows, curve.highs))
    return Summary(
        metric=curve.key,
        last=curve.values[-1],
        low=min((value for value in lows if not math.isnan(value)), default=math.nan),
        high=max((value for value in highs if not math.isnan(value)), default=math.nan),
        points=sum(curve.counts),
        trend=trend([float(value) for value in curve.values]),
    )


def trend(values: Sequence[float]) -> str:
    """The points of a polyline through values; empty for fewer than two."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, span = min(finite), max(finite) - min(finite)
    if not 0 < span < math.inf:
        return f"0,{_HEIGHT / 2} {_WIDTH},{_HEIGHT / 2}"
    step, scale = _WIDTH / (len(finite) - 1), (_HEIGHT - 4) / span
    return " ".join(f"{at * step:.1f},{_HEIGHT - 2 - (value - low) * scale:.1f}" for at, value in enumerate(finite))


async def charts(call: Call, runs: Sequence[Run], metrics: Sequence[str]) -> list[Chart]:
    """A chart for each metric; the first few drawn at once, the others when they come into sight."""
    drawn = await drawings(call, runs, metrics[:AT_ONCE]) if metrics else []
    ids = [run.id for run in runs]
    found = []
    for number, metric in enumerate(metrics):
        url = path_to(call.scope.project, "curves", key=metric, run=ids)
        group = metric.rpartition("/")[0] if len(metrics) > _UNGROUPED else ""
        found.append(Chart(_place_of(metric), metric, url, group, drawn[number] if number < len(drawn) else None))
    return found


def _place_of(metric: str) -> str:
    """What the place of a metric's figure is called: the same however many metrics come to stand before it."""
    return f"m{digest_bytes(metric.encode())[:12]}"


async def drawings(
    call: Call, runs: Sequence[Run], metrics: Sequence[str], first: int | None = None, last: int | None = None
) -> list[Drawing]:
    """The figures of metrics, of one run or of several beside each other."""
    curves = {}
    for name, run in names_of(runs).items():
        found = await call.ask(
            "runs.curve", run=run.id, keys=list(metrics), buckets=_BUCKETS, first_step=first, last_step=last
        )
        curves[name] = {curve.key: curve for curve in found}
    began = {name: run.started_at.timestamp() * 1000 for name, run in names_of(runs).items()}
    return [metric_curve(key, _having(curves, key), began) for key in metrics]


def _having(curves: dict[str, dict[str, Curve]], key: str) -> dict[str, Curve]:
    """The curves of one metric, without the runs that have it not."""
    return {name: some[key] for name, some in curves.items() if some[key].steps or len(curves) == 1}


def names_of(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by names that tell them apart: with the end of the id where two have the same."""
    names = [run.name or run.id[-8:] for run in runs]
    told = (
        name if names.count(name) == 1 else f"{name} ({run.id[-6:]})" for name, run in zip(names, runs, strict=True)
    )
    return dict(zip(told, runs, strict=True))


async def curve(call: Call) -> Response:
    """One figure as JSON: a metric of one or several runs, perhaps of a range of steps only, to look closer."""
    query = call.request.query_params
    ids, key = query.getlist("run"), query.get("key", "")
    if not key or not 1 <= len(ids) <= _MAX_RUNS:
        raise Invalid(f"{len(ids)} runs and the metric {key[:60]!r} give no figure", next_step=f"name 1 to {_MAX_RUNS}")
    runs = [await call.ask("runs.get", run=id) for id in ids]
    [found] = await drawings(call, runs, [key], _step(query.get("first")), _step(query.get("last")))
    values: dict[str, Any] = {"title": key, "figure": found.figure, "columns": found.columns, "rows": found.rows}
    return json_reply(values)


def _step(text: str | None) -> int | None:
    """A step from an address; plots give fractions."""
    if not text:
        return None
    try:
        return round(float(text))
    except (ValueError, OverflowError):
        raise Invalid(f"{text[:40]!r} is no step", next_step="give a whole number") from None
