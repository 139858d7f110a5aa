"""One run: its metrics and words, the machine that it ran on, and its code and environment."""

from __future__ import annotations

from typing import Any

from loopwright.core import NotFound
from loopwright.server import Call
from loopwright.track import Run
from loopwright.ui import curves
from loopwright.ui.page import View, attempt

_CHILDREN = 100
_LIVE = ("run", "baseline")
_TRACEBACK = "error/traceback.txt"
_SHOWN_BYTES = 256 << 10
_SOURCE_TAGS = {
    "mlflow.source.name": "source",
    "mlflow.source.type": "kind of source",
    "mlflow.source.git.commit": "git commit",
    "mlflow.source.git.branch": "git branch",
    "mlflow.source.git.repoURL": "git repository",
    "mlflow.user": "user",
    "mlflow.docker.image.name": "image",
}


def shell_of(run: Run, template: str, values: dict[str, Any], scripts: tuple[str, ...] = (), **more: Any) -> View:
    """A page of a run: all of them have the same head and tabs."""
    trail: tuple[tuple[str, tuple[str, ...]], ...] = (("Runs", ("runs",)),)
    return View(
        run.name or run.id,
        template,
        {"run": run, **values},
        section="runs",
        trail=trail,
        live=_LIVE,
        scripts=scripts,
        poll_s=5.0 if run.status == "running" else None,
        **more,
    )


async def run(call: Call) -> View:
    """Metrics as numbers and curves, params, tags, what it read and made."""
    found: Run = await call.ask("runs.get", run=call.request.path_params["run"])
    metrics = await curves.summaries(call, found, curves.keys_of(found))
    charts = await curves.charts(call, [found], [item.metric for item in metrics if item.points > 1])
    [against] = await call.ask("runs.against_baseline", runs=[found.id])
    [contents] = await call.ask("runs.contents", runs=[found.id])
    values = {
        "metrics": metrics,
        "charts": charts,
        "against": against,
        "contents": contents,
        "versions": (await attempt(call, "models.made_by", run=found.id))[0] or [],
        "sources": await _edges(call, found, "up"),
        "products": await _edges(call, found, "down"),
        "children": await call.ask("runs.search", filter=f"parent = '{found.id}'", limit=_CHILDREN),
        "events": await call.ask("events.latest", subject=f"run:{found.id}", limit=20),
        "files": (await attempt(call, "artifacts.list", owner=f"run:{found.id}"))[0] or [],
        "traceback": await _text_of(call, found, _TRACEBACK) if found.error or found.status == "failed" else "",
        "figures": {item.metric: item.drawing.figure for item in charts if item.drawing},
    }
    return shell_of(found, "run.html", values, ("charts.js",), drawings=_drawn(charts))


def _drawn(charts: list[curves.Chart]) -> dict[str, Any]:
    return {item.key: item.drawing for item in charts}


async def _edges(call: Call, run: Run, direction: str) -> list[tuple[str, str]]:
    """What a run came from, or led to: roles and refs."""
    trace, _ = await attempt(call, "lineage.trace", ref=f"run:{run.id}", direction=direction, depth=1)
    if trace is None:
        return []
    return [(edge.role, edge.source if direction == "up" else edge.target) for edge in trace.edges]


async def _text_of(call: Call, run: Run, path: str) -> str:
    """The head of a file of a run, if it is there."""
    service = call.services.service("runs", call.scope)

    def read() -> str:
        try:
            with service.open_artifact(run.id, path) as stream:
                return bytes(stream.read(_SHOWN_BYTES)).decode(errors="replace")
        except NotFound:
            return ""

    found: str = await call.services.in_thread(read)
    return found


async def system(call: Call) -> View:
    """How busy the machine was."""
    found: Run = await call.ask("runs.get", run=call.request.path_params["run"])
    metrics = await curves.summaries(call, found, curves.keys_of(found, system=True))
    charts = await curves.charts(call, [found], [item.metric for item in metrics])
    figures = {item.metric: item.drawing.figure for item in charts if item.drawing}
    values = {"metrics": metrics, "charts": charts, "figures": figures}
    return shell_of(found, "run_system.html", values, ("charts.js",), drawings=_drawn(charts))


async def code(call: Call) -> View:
    """What the run ran: code, uncommitted changes, environment, steps; and what moved since the baseline."""
    found: Run = await call.ask("runs.get", run=call.request.path_params["run"])
    record, _ = await attempt(call, "pipelines.record", run=found.id)
    pipeline, _ = await attempt(call, "pipelines.get", run=found.id)
    [against] = await call.ask("runs.against_baseline", runs=[found.id])
    other = against.baseline if against.baseline != found.id else ""
    moved, _ = await attempt(call, "pipelines.differences", first=other, second=found.id) if other else (None, "")
    captured = await _captured(call, record.capture) if record and record.capture else {}
    values = {
        "record": record,
        "capture": record.capture if record else None,
        "steps": pipeline.steps if pipeline else (),
        "patch": captured.get("patch", ""),
        "environment": captured.get("environment"),
        "baseline": other,
        "moved": moved,
        "source": {title: found.tags[tag] for tag, title in _SOURCE_TAGS.items() if found.tags.get(tag)},
    }
    return shell_of(found, "run_code.html", values)


async def _captured(call: Call, capture: Any) -> dict[str, Any]:
    """The uncommitted changes as text, and the environment's lock, from the digests that the record names."""
    objects = call.services.service("pipelines", call.scope).stores.objects

    def read() -> dict[str, Any]:
        import msgspec

        patch = objects.get(capture.git_diff)[:_SHOWN_BYTES].decode(errors="replace") if capture.git_diff else ""
        lock = msgspec.json.decode(objects.get(capture.environment)) if capture.environment else None
        return {"patch": patch, "environment": lock}

    try:
        found: dict[str, Any] = await call.services.in_thread(read)
    except NotFound:
        return {}
    return found
