"""Endpoints with their traffic and monitors, rollouts, single predictions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from loopwright.server import Call
from loopwright.ui.figures import MAX_MARKS, Drawing, Mark, drift_over_time, performance_over_time, traffic_over_time
from loopwright.ui.formats import short
from loopwright.ui.links import watched_job
from loopwright.ui.page import View, attempt

_LIVE = ("endpoint", "rollout", "alert", "monitor", "gate")
_WINDOWS = 400
_CHANGES = 500
DECISIONS = {
    "rollout.started": "accent",
    "rollout.completed": "good",
    "rollout.rolled_back": "bad",
    "alert.opened": "warn",
    "alert.closed": "good",
    "loop.triggered": "accent",
}


async def endpoints(call: Call) -> View:
    """All endpoints with what answers them."""
    found = await call.ask("endpoints.list")
    alerts = await call.ask("monitors.alerts", open_only=True)
    values = {"endpoints": found, "alerts": alerts}
    return View("Endpoints", "endpoints.html", values, section="endpoints", live=_LIVE)


async def endpoint(call: Call) -> View:
    """One endpoint: live traffic, the rollout under way, windows of its monitors, alerts, decisions."""
    found = await call.ask("endpoints.get", name=call.request.path_params["name"])
    rollout, _ = await attempt(call, "rollouts.get", id=found.rollout) if found.rollout else (None, "")
    windows = await call.ask("monitors.windows", endpoint=found.name, limit=_WINDOWS)
    changes = await call.ask(
        "events.latest", subject=f"endpoint:{found.name}", kinds=("endpoint.traffic_set",), limit=_CHANGES
    )
    decisions = await _decisions(call, found.name)
    now = await call.ask("loops.now")
    drawings = drawings_of(windows, changes, marks_of(decisions[:MAX_MARKS]), now)
    values = {
        "endpoint": found,
        "versions": [version for share in found.shares if (version := await _version(call, share.model))],
        "rollout": rollout,
        "rollouts": await call.ask("rollouts.list", endpoint=found.name, limit=20),
        "windows": windows[:60],
        "judged": next((window for window in windows if window.labels and window.by_variant), None),
        "alerts": await call.ask("monitors.alerts", endpoint=found.name, limit=50),
        "monitors": [info for info in await call.ask("monitors.list") if info.monitor.endpoint == found.name],
        "decisions": decisions[:40],
        "numbers": {event.id: number for number, event in enumerate(reversed(decisions[:MAX_MARKS]), start=1)},
        "changes": changes[:20],
        "now": now,
    }
    trail = (("Endpoints", ("endpoints",)),)
    return View(found.name, "endpoint.html", values, "endpoints", trail, _LIVE, poll_s=10.0, drawings=drawings)


async def _version(call: Call, ref: str) -> Any:
    """A version that answers; None where it is gone."""
    return (await attempt(call, "models.get", ref=ref))[0]


async def _decisions(call: Call, endpoint: str) -> list[Any]:
    """The newest decisions about an endpoint, newest first."""
    found = await call.ask("events.latest", kinds=tuple(DECISIONS), limit=_CHANGES)
    mine = {f"endpoint:{endpoint}", endpoint}
    return [event for event in found if not event.evidence.get("endpoint") or event.evidence["endpoint"] in mine]


def marks_of(events: Sequence[Any]) -> list[Mark]:
    """Events as marks on a time axis."""
    return [Mark(event.at, event.kind, DECISIONS.get(event.kind, "accent")) for event in events]


def drawings_of(
    windows: Sequence[Any], changes: Sequence[Any], marks: Sequence[Mark], now: datetime
) -> dict[str, Drawing]:
    """What windows of monitors, and changes of traffic, look like over time."""
    drawings: dict[str, Drawing] = {}
    steps = [(event.at, event.evidence.get("after", {})) for event in reversed(changes)]
    if steps:
        drawings["traffic"] = traffic_over_time(steps, now, marks)
    for metric in list(dict.fromkeys(key for window in windows for key in window.performance))[:4]:
        drawings[f"performance-{metric}"] = performance_over_time(windows, metric, marks)
    if any(window.drift for window in windows):
        drawings["drift"] = drift_over_time(windows, marks)
    return drawings


async def rollout(call: Call) -> View:
    """One rollout: its plan, how far it has come, and every decision with its statistics."""
    found = await call.ask("rollouts.get", id=call.request.path_params["id"])
    events = await call.ask("events.latest", subject=f"rollout:{found.id}", limit=200)
    values = {"rollout": found, "events": list(reversed(events))}
    trail = (("Endpoints", ("endpoints",)), (found.endpoint, ("endpoints", found.endpoint)))
    return View(f"Rollout of {found.candidate}", "rollout.html", values, "endpoints", trail, _LIVE)


async def monitor(call: Call) -> View:
    """One monitor: its policies and windows."""
    name = call.request.path_params["name"]
    info = await call.ask("monitors.get", name=name)
    windows = await call.ask("monitors.windows", monitor=name, limit=_WINDOWS)
    values = {"info": info, "windows": windows[:100]}
    watched, job = info.monitor.endpoint, watched_job(info.project, info.monitor.endpoint)
    trail = (
        (("Scoring", ("scoring",)), (job, ("scoring", job)))
        if job
        else (("Endpoints", ("endpoints",)), (watched, ("endpoints", watched)))
    )
    drawings = drawings_of(windows, [], [], await call.ask("loops.now"))
    return View(name, "monitor.html", values, "scoring" if job else "endpoints", trail, _LIVE, drawings=drawings)


async def prediction(call: Call) -> View:
    """One prediction: what was asked, what was answered, the truth if it came, and where it came from."""
    identifier = call.request.path_params["id"]
    found = await call.ask("monitors.prediction", id=identifier)
    trace, trouble = await attempt(call, "lineage.trace", ref=f"prediction:{found.id}", direction="up")
    trail = (("Endpoints", ("endpoints",)), (found.endpoint, ("endpoints", found.endpoint)))
    values = {"prediction": found, "trace": trace, "trouble": trouble}
    return View(f"Prediction {short(found.id)}", "prediction.html", values, "endpoints", trail)
