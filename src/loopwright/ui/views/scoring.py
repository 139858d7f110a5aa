"""Scoring jobs: how they are declared, their runs, and what their monitors see."""

from __future__ import annotations

from loopwright.server import Call
from loopwright.ui.page import View
from loopwright.ui.views.serving import drawings_of

_LIVE = ("scoring", "alert", "monitor", "run")
_RUNS, _WINDOWS = 50, 400


async def jobs(call: Call) -> View:
    """All scoring jobs, each with its newest run."""
    found = await call.ask("scoring_jobs.list")
    newest = {}
    for info in found:
        runs = await call.ask("scoring_jobs.runs", job=info.job.name, limit=1)
        newest[info.job.name] = runs[0] if runs else None
    values = {"jobs": found, "newest": newest, "alerts": await call.ask("monitors.alerts", open_only=True)}
    return View("Scoring", "scoring.html", values, section="scoring", live=_LIVE)


async def job(call: Call) -> View:
    """One scoring job: its runs, and the windows, drift and alerts of what they read and answered."""
    name, after = call.request.path_params["name"], call.request.query_params.get("after", "")
    info = await call.ask("scoring_jobs.get", name=name)
    runs = await call.ask("scoring_jobs.runs", job=name, limit=_RUNS, after=after)
    windows = await call.ask("monitors.windows", endpoint=info.watched_as, limit=_WINDOWS)
    values = {
        "info": info,
        "runs": runs,
        "older": runs[-1].id if len(runs) == _RUNS else "",
        "windows": windows[:60],
        "alerts": await call.ask("monitors.alerts", endpoint=info.watched_as, limit=50),
        "events": await call.ask("events.latest", subject=f"scoring:{name}", limit=30),
    }
    drawings = drawings_of(windows, [], [], await call.ask("loops.now"))
    trail = (("Scoring", ("scoring",)),)
    return View(name, "scoring_job.html", values, "scoring", trail, _LIVE, drawings=drawings)
