"""Alerts, approvals, the log of events, lineage."""

from __future__ import annotations

from typing import Any

from loopwright.core import LoopwrightError
from loopwright.server import Call
from loopwright.ui.formats import short_ref
from loopwright.ui.page import View, attempt

_PAGE = 100
_MOST_DRAWN = 160
KINDS = (
    "alert.closed",
    "alert.opened",
    "approval.denied",
    "approval.granted",
    "approval.requested",
    "dataset.checked",
    "dataset.version_created",
    "endpoint.traffic_set",
    "feature_view.materialised",
    "gate.judged",
    "loop.finished",
    "loop.triggered",
    "model.alias_moved",
    "model.version_created",
    "rollout.advanced",
    "rollout.completed",
    "rollout.rolled_back",
    "rollout.started",
    "run.failed",
    "run.finished",
    "run.started",
    "token.created",
    "token.revoked",
)


async def alerts(call: Call) -> View:
    """Open alerts first, then the closed ones, newest first."""
    found = await call.ask("monitors.alerts", limit=200)
    ordered = sorted(found, key=lambda alert: alert.state != "open")
    return View("Alerts", "alerts.html", {"alerts": ordered}, section="alerts", live=("alert",))


async def alert(call: Call) -> View:
    """One alert with its evidence."""
    found = await call.ask("monitors.alert", id=call.request.path_params["id"])
    events = await call.ask("events.latest", subject=f"alert:{found.id}", limit=20)
    trail = (("Alerts", ("alerts",)),)
    return View(found.summary, "alert.html", {"alert": found, "events": events}, "alerts", trail, ("alert",))


async def approval(call: Call) -> View:
    """One question to a person, with what it rests on."""
    found = await call.ask("approvals.get", id=call.request.path_params["id"])
    events = await call.ask("events.latest", subject=f"approval:{found.id}", limit=20)
    values = {"approval": found, "events": events}
    return View(f"Release of {found.model}", "approval.html", values, "", (("Loops", ()),), ("approval",))


async def events(call: Call) -> View:
    """The log of events, newest first, by kind and subject."""
    query = call.request.query_params
    kinds, subject = tuple(kind for kind in query.getlist("kinds") if kind), query.get("subject", "").strip()
    before = int(query["before"]) if query.get("before", "").isdecimal() else None
    found = await call.ask("events.latest", limit=_PAGE, before=before, kinds=kinds, subject=subject)
    values = {
        "events": found,
        "kinds": kinds,
        "subject": subject,
        "known": sorted({*KINDS, *kinds}),
        "older": found[-1].position if len(found) == _PAGE else None,
        "paged": before is not None,
    }
    return View("Events", "events.html", values, section="events", live=() if before else ("*",))


async def event(call: Call) -> View:
    """One event: who, what, why, on which evidence, and what followed from it."""
    found = await call.ask("events.get", event=call.request.path_params["id"])
    cause, _ = await attempt(call, "events.get", event=found.cause) if found.cause.startswith("event:") else (None, "")
    trail = (("Events", ("events",)),)
    return View(found.kind, "event.html", {"event": found, "cause": cause}, "events", trail)


async def lineage(call: Call) -> View:
    """What a ref came from, what came from it, as a drawing with links."""
    query = call.request.query_params
    ref, direction = query.get("ref", "").strip(), query.get("direction", "both")
    traces, problem = {}, ""
    for way in ("up", "down"):
        if ref and direction in (way, "both"):
            try:
                traces[way] = await call.ask("lineage.trace", ref=ref, direction=way)
            except LoopwrightError as error:
                problem = str(error)
    nodes = {node.ref: node for trace in traces.values() for node in trace.nodes}
    edges = list(dict.fromkeys((e.source, e.target, e.role) for trace in traces.values() for e in trace.edges))
    drawn = _nearest([list(trace.nodes) for trace in traces.values()])
    values = {
        "ref": ref,
        "direction": direction,
        "nodes": list(nodes.values()),
        "edges": [{"source": source, "target": target, "role": role} for source, target, role in edges],
        "drawn": drawn,
        "root": next((trace.root for trace in traces.values()), ref),
        "uses": [use for trace in traces.values() for use in trace.uses],
        "truncated": any(trace.truncated for trace in traces.values()),
        "problem": problem if not traces else "",
    }
    return View(f"Lineage of {short_ref(ref)}" if ref else "Lineage", "lineage.html", values, section="lineage")


def _nearest(traces: list[list[Any]]) -> list[str]:
    """The refs to draw: of each trace the nearest, so many that a person can still read the drawing."""
    return list(dict.fromkeys(node.ref for nodes in traces for node in nodes[: _MOST_DRAWN // len(traces)]))
