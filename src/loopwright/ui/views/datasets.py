"""Datasets, and one version of one."""

from __future__ import annotations

from loopwright.server import Call
from loopwright.ui.page import View, attempt

_LIVE = ("dataset",)
_PREVIEW_ROWS = 10


async def datasets(call: Call) -> View:
    """All datasets with their newest versions."""
    after = call.request.query_params.get("after", "")
    found = await call.ask("datasets.list", limit=100, after=after)
    older = found[-1].name if len(found) == 100 else ""
    return View("Datasets", "datasets.html", {"datasets": found, "older": older}, section="datasets", live=_LIVE)


async def dataset(call: Call) -> View:
    """One dataset and its versions."""
    name = call.request.path_params["name"]
    versions = await call.ask("datasets.versions", name=name, limit=100)
    checks = await call.ask("datasets.checks", name=name, limit=20)
    values = {"name": name, "versions": versions, "checks": checks}
    return View(name, "dataset.html", values, "datasets", (("Datasets", ("datasets",)),), _LIVE)


async def version(call: Call) -> View:
    """One version: schema, profile, checks, and a look at the rows."""
    parameters = call.request.path_params
    found = await call.ask("datasets.get", ref=f"dataset:{parameters['name']}@{parameters['version']}")
    table = found.kind == "table"
    profile, no_profile = await attempt(call, "datasets.profile", ref=found.ref) if table else (None, "")
    preview, no_preview = (
        await attempt(call, "datasets.preview", ref=found.ref, limit=_PREVIEW_ROWS) if table else (None, "")
    )
    checks = [
        report for report in await call.ask("datasets.checks", name=found.name, limit=50) if report.ref == found.ref
    ]
    values = {
        "version": found,
        "profile": profile,
        "preview": preview,
        "checks": checks,
        "troubles": [text for text in (no_profile, no_preview) if text],
    }
    trail = (("Datasets", ("datasets",)), (found.name, ("datasets", found.name)))
    return View(f"{found.name} version {found.version}", "dataset_version.html", values, "datasets", trail, _LIVE)
