"""Runs: the table, one run, several side by side, and their files."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from loopwright.core import Invalid, LoopwrightError
from loopwright.server import Call
from loopwright.ui.figures import Drawing, metric_history
from loopwright.ui.page import SECURITY, View, attempt

_PAGE = 100
_MAX_FIGURES = 24
_COMPANIONS = ("_lower", "_upper", "_n")
_CHUNK = 1 << 20
_LIVE = ("run", "baseline")


async def runs(call: Call) -> View:
    """The table of runs, filtered by the search language."""
    query = call.request.query_params
    filter_text, experiment = query.get("filter", ""), query.get("experiment", "")
    problem, found = "", []
    try:
        found = await call.ask(
            "runs.search", filter=filter_text, experiment=experiment, limit=_PAGE, after=query.get("after", "")
        )
    except Invalid as error:
        problem = str(error)
    values = {
        "runs": found,
        "metrics": _common(_plain(run.metrics) for run in found),
        "params": _common(run.params for run in found),
        "experiments": await call.ask("runs.experiments"),
        "filter": filter_text,
        "experiment": experiment,
        "problem": problem,
        "older": found[-1].id if len(found) == _PAGE else "",
    }
    return View("Runs", "runs.html", values, section="runs", live=_LIVE)


def _plain(metrics: dict[str, float]) -> list[str]:
    """The metrics that are no bounds or counts of others."""
    return [key for key in metrics if not any(key == f"{other}{tail}" for other in metrics for tail in _COMPANIONS)]


def _common(found: Iterator[Any] | Any, limit: int = 5) -> list[str]:
    """The keys that most of the runs have."""
    counts: dict[str, int] = {}
    for item in found:
        for key in item:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: (-counts[key], key))[:limit]


async def run(call: Call) -> View:
    """One run: metrics, params, files, and what it came from and led to."""
    found = await call.ask("runs.get", run=call.request.path_params["run"])
    drawings = await _histories(call, [found])
    trace, _ = await attempt(call, "lineage.trace", ref=f"run:{found.id}", direction="up", depth=1)
    made, _ = await attempt(call, "lineage.trace", ref=f"run:{found.id}", direction="down", depth=1)
    children = await call.ask("runs.search", filter=f"parent = '{found.id}'", limit=_PAGE)
    values = {
        "run": found,
        "artifacts": await call.ask("runs.artifacts", run=found.id),
        "events": await call.ask("events.latest", subject=f"run:{found.id}", limit=20),
        "children": children,
        "sources": [(edge.role, edge.source) for edge in trace.edges] if trace else [],
        "products": [(edge.role, edge.target) for edge in made.edges] if made else [],
        "figures": {key: drawing.figure for key, drawing in drawings.items()},
    }
    trail = (("Runs", ("runs",)),)
    return View(
        found.name or found.id,
        "run.html",
        values,
        section="runs",
        trail=trail,
        live=_LIVE,
        drawings=drawings,
        poll_s=5.0 if found.status == "running" else None,
    )


async def compare(call: Call) -> View:
    """Runs beside each other: only what differs, unless everything was asked for."""
    query = call.request.query_params
    ids = query.getlist("run")
    if len(ids) < 2:
        raise Invalid(f"{len(ids)} runs are chosen", next_step="choose two or more in the table of runs")
    found = await call.ask("runs.compare", runs=ids, everything=query.get("everything") == "1")
    drawings = await _histories(call, found.runs)
    values = {"comparison": found, "ids": ids, "everything": query.get("everything") == "1"}
    trail = (("Runs", ("runs",)),)
    return View(f"{len(ids)} runs compared", "compare.html", values, section="runs", trail=trail, drawings=drawings)


async def _histories(call: Call, runs: list[Any]) -> dict[str, Drawing]:
    """A figure for each metric that has more than one point in one of the runs."""
    keys = list(dict.fromkeys(key for run in runs for key in run.metrics))[:_MAX_FIGURES]
    drawings = {}
    for number, key in enumerate(keys):
        series = {}
        for run in runs:
            if key in run.metrics:
                history = await call.ask("runs.history", run=run.id, key=key)
                series[run.name or run.id[-8:]] = (history.steps, history.floats())
        if any(len(steps) > 1 for steps, _ in series.values()):
            drawings[f"m{number}"] = metric_history(key, series)
    return drawings


async def artifact(call: Call) -> Response:
    """A file of a run, as a download that no browser interprets."""
    run_id, path = call.request.path_params["run"], call.request.path_params["path"]
    service = call.services.service("runs", call.scope)
    stream: BinaryIO = await call.services.in_thread(lambda: service.open_artifact(run_id, path))
    name = quote(path.rsplit("/", 1)[-1], safe="")
    headers = {**SECURITY, "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return StreamingResponse(_chunks(stream), headers=headers, media_type=kind)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    try:
        with stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except LoopwrightError:
        return
