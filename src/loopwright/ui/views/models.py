"""Registered models, and one version."""

from __future__ import annotations

from loopwright.server import Call
from loopwright.ui.page import View, attempt

_LIVE = ("model",)


async def models(call: Call) -> View:
    """All registered names."""
    found = await call.ask("models.list", limit=200)
    newest = {model.name: (await attempt(call, "models.get", ref=f"model:{model.name}"))[0] for model in found}
    return View("Models", "models.html", {"models": found, "newest": newest}, section="models", live=_LIVE)


async def model(call: Call) -> View:
    """One name and its versions."""
    name = call.request.path_params["name"]
    versions = await call.ask("models.versions", name=name, limit=200)
    keys = sorted({key for version in versions for key in version.metrics})[:8]
    events = await call.ask("events.latest", subject=f"model:{name}", limit=20)
    values = {"name": name, "versions": versions, "metrics": keys, "events": events}
    return View(name, "model.html", values, section="models", trail=(("Models", ("models",)),), live=_LIVE)


async def version(call: Call) -> View:
    """One version: aliases, signature, metrics, the proof of its conversion, its card."""
    parameters = call.request.path_params
    found = await call.ask("models.get", ref=f"model:{parameters['name']}@{parameters['selector']}")
    manifest, trouble = await attempt(call, "models.manifest", ref=found.ref)
    card, _ = await attempt(call, "models.card", ref=found.ref)
    values = {
        "version": found,
        "manifest": manifest,
        "trouble": trouble,
        "card": card or "",
        "events": await call.ask("events.latest", subject=found.ref, limit=20),
    }
    trail = (("Models", ("models",)), (found.name, ("models", found.name)))
    return View(f"{found.name} version {found.version}", "version.html", values, "models", trail, _LIVE)
