"""Feature views, and one of them."""

from __future__ import annotations

from loopwright.server import Call
from loopwright.ui.page import View

_LIVE = ("feature_view",)


async def features(call: Call) -> View:
    """All feature views."""
    found = await call.ask("features.list")
    return View("Features", "features.html", {"views": found}, section="features", live=_LIVE)


async def feature(call: Call) -> View:
    """One feature view: where it comes from, and what it gives."""
    name = call.request.path_params["name"]
    found = await call.ask("features.get", name=name)
    events = await call.ask("events.latest", subject=found.ref, limit=20)
    trail = (("Features", ("features",)),)
    return View(name, "feature.html", {"view": found, "events": events}, "features", trail, _LIVE)
