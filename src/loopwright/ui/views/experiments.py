"""Experiments, with how many runs each has and which run is the one to beat."""

from __future__ import annotations

from loopwright.server import Call
from loopwright.track import View as Which
from loopwright.ui.page import View, attempt

VIEW_TAG = "loopwright.view."
"""A table of runs that was saved under a name is a tag of its experiment: the name behind this, the value its query."""

_PAGE = 200
_LIVE = ("run", "baseline", "experiment")


async def experiments(call: Call) -> View:
    """Experiments, last changed first."""
    query = call.request.query_params
    deleted = query.get("view") == "deleted"
    which = Which.DELETED if deleted else Which.ACTIVE
    page = await call.ask("experiments.search", view=which, limit=_PAGE, after=query.get("after", ""))
    counts = {item.experiment_id: item for item in await call.ask("experiments.counts")}
    pinned = [item.baseline for item in page.experiments if item.baseline]
    baselines = {id: (await attempt(call, "runs.get", run=id))[0] for id in pinned}
    values = {
        "experiments": page.experiments,
        "tags": {item.id: _own_tags(item.tags) for item in page.experiments},
        "views": {item.id: sum(key.startswith(VIEW_TAG) for key in item.tags) for item in page.experiments},
        "counts": {item.id: counts.get(item.id) for item in page.experiments},
        "baselines": baselines,
        "deleted": deleted,
        "next": page.next,
    }
    return View("Experiments", "experiments.html", values, section="runs", trail=(("Runs", ("runs",)),), live=_LIVE)


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags that people set: without saved views and MLflow's own."""
    return {key: value for key, value in tags.items() if not key.startswith((VIEW_TAG, "mlflow."))}
