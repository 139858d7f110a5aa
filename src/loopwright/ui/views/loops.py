"""The overview of loops, one loop, and one pass around a loop."""

from __future__ import annotations

from typing import Any

from loopwright.server import Call
from loopwright.ui.page import View, attempt

_LIVE = ("loop", "rollout", "gate", "approval", "alert", "endpoint", "model", "run")
STAGES = ("pending", "training", "gating", "waiting_approval", "rolling_out", "guarding", "finished")
_RUNS = 50


async def overview(call: Call) -> View:
    """All loops with their state and last decisions, what waits for a person, and what is wrong."""
    values = {
        "loops": await call.ask("loops.overview"),
        "endpoints": await call.ask("endpoints.list"),
        "approvals": await call.ask("approvals.list", state="requested"),
        "alerts": await call.ask("monitors.alerts", open_only=True),
        "models": await call.ask("models.list"),
        "now": await call.ask("loops.now"),
        "stages": STAGES,
    }
    return View("Loops", "overview.html", values, section="", live=_LIVE)


async def loop(call: Call) -> View:
    """One loop: how it is declared, and its runs."""
    name = call.request.path_params["name"]
    info = await call.ask("loops.get", name=name)
    runs = await call.ask("loops.runs", loop=name, limit=_RUNS, after=call.request.query_params.get("after", ""))
    events = await call.ask("events.latest", subject=f"loop:{name}", limit=30)
    older = runs[-1].id if len(runs) == _RUNS else ""
    values = {"info": info, "runs": runs, "events": events, "older": older, "stages": STAGES}
    return View(info.loop.name, "loop.html", values, section="", trail=(("Loops", ()),), live=_LIVE)


async def loop_run(call: Call) -> View:
    """One pass around a loop, with every decision in it."""
    run = await call.ask("loops.run", id=call.request.path_params["id"])
    decisions = await _decisions(call, run)
    rollout, _ = await attempt(call, "rollouts.get", id=run.rollout) if run.rollout else (None, "")
    values = {"run": run, "decisions": decisions, "rollout": rollout, "stages": STAGES}
    trail = (("Loops", ()), (run.loop, ("loops", run.loop)))
    return View(f"Run of {run.loop}", "loop_run.html", values, section="", trail=trail, live=_LIVE)


async def _decisions(call: Call, run: Any) -> list[Any]:
    """The events about the run and about what it set in motion, oldest first."""
    subjects = [f"looprun:{run.id}"]
    subjects += [f"run:{run.training_run}"] if run.training_run else []
    subjects += [f"approval:{run.approval}"] if run.approval else []
    subjects += [f"rollout:{run.rollout}"] if run.rollout else []
    subjects += [run.model_version] if run.model_version else []
    found: dict[str, Any] = {}
    for subject in subjects:
        for event in await call.ask("events.latest", subject=subject, limit=100):
            found[event.id] = event
    cause, _ = await attempt(call, "events.get", event=run.cause) if run.cause.startswith("event:") else (None, "")
    return sorted([*found.values(), *([cause] if cause and cause.id not in found else [])], key=lambda event: event.id)
