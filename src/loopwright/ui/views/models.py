"""Registered models, and one version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from starlette.responses import Response, StreamingResponse

from loopwright.core import Corrupt, Invalid, LoopwrightError, NotFound
from loopwright.models import Kind, ModelPage, ModelVersion
from loopwright.server import Call
from loopwright.track import Entry
from loopwright.ui.columns import plain_metrics
from loopwright.ui.page import View, attempt, download_headers
from loopwright.ui.previews import inert_type

_LIVE = ("model", "endpoint", "rollout")
_PAGE = 50
_VERSIONS = 100
_METRICS = 8
_FILES = 300
_CHUNK = 1 << 20
_TOLD = {"MLmodel": 64 << 10}


async def models(call: Call) -> View:
    """Registered names, by a filter such as `name LIKE 'delay%' and tags.team = 'ops'`."""
    query = call.request.query_params
    filter_text, problem, found = query.get("filter", ""), "", ModelPage([])
    try:
        found = await call.ask("models.search", filter=filter_text, limit=_PAGE, after=query.get("after", ""))
    except Invalid as error:
        problem = str(error)
    newest = {item.name: (await attempt(call, "models.get", ref=f"model:{item.name}"))[0] for item in found.models}
    values = {
        "models": found.models,
        "newest": newest,
        "serving": await _serving(call),
        "filter": filter_text,
        "problem": problem,
        "next": found.next,
    }
    return View("Models", "models.html", values, section="models", live=_LIVE)


async def _serving(call: Call) -> dict[str, list[str]]:
    """By version, the endpoints that it answers for."""
    found: dict[str, list[str]] = {}
    for endpoint in await call.ask("endpoints.list"):
        for share in endpoint.shares:
            found.setdefault(share.model, []).append(endpoint.name)
    return found


async def model(call: Call) -> View:
    """One name and its versions."""
    name = call.request.path_params["name"]
    before = call.request.query_params.get("before", "")
    found = await call.ask("models.named", name=name)
    asked = {"before": int(before)} if before.isdecimal() else {}
    versions: Sequence[ModelVersion] = await call.ask("models.versions", name=name, limit=_VERSIONS, **asked)
    values = {
        "model": found,
        "versions": versions,
        "metrics": sorted({key for version in versions for key in plain_metrics(version.metrics)})[:_METRICS],
        "serving": await _serving(call),
        "older": versions[-1].version if len(versions) == _VERSIONS else 0,
        "events": await call.ask("events.latest", subject=f"model:{name}", limit=20),
    }
    return View(found.name, "model.html", values, section="models", trail=(("Models", ("models",)),), live=_LIVE)


async def version(call: Call) -> View:
    """One version: what it holds, where it came from, who serves it, its signature and card."""
    found = await _version(call)
    servable = found.kind is Kind.BUNDLE
    manifest, trouble = await attempt(call, "models.manifest", ref=found.ref) if servable else (None, "")
    card, _ = await attempt(call, "models.card", ref=found.ref) if servable else ("", "")
    values = {
        "version": found,
        "servable": servable,
        "manifest": manifest,
        "trouble": trouble,
        "trusted": await _trusted(call, found),
        "card": card or "",
        "serving": (await _serving(call)).get(found.ref, []),
        "run": (await attempt(call, "runs.get", run=found.run))[0] if found.run else None,
        **await _contents(call, found),
        "events": await call.ask("events.latest", subject=found.ref, limit=20),
    }
    trail = (("Models", ("models",)), (found.name, ("models", found.name)))
    return View(f"{found.name} version {found.version}", "version.html", values, "models", trail, _LIVE)


async def _trusted(call: Call, found: ModelVersion) -> frozenset[str]:
    """The keys that signed it and are trusted here."""
    if not found.signatures:
        return frozenset()
    told, _ = await attempt(call, "models.inspect", ref=found.ref)
    return frozenset(item.key for item in told.signatures if item.trusted) if told else frozenset()


async def _version(call: Call) -> ModelVersion:
    parameters = call.request.path_params
    found: ModelVersion = await call.ask("models.get", ref=f"model:{parameters['name']}@{parameters['selector']}")
    return found


async def _contents(call: Call, found: ModelVersion) -> Mapping[str, Any]:
    """The files of a version, and the words of those that say what it is."""
    service = call.services.service("models", call.scope)

    def read() -> dict[str, Any]:
        files = _walk(service, found.bundle)
        told = {}
        for item in files:
            if item.path in _TOLD:
                _, stream = service.open_file(found.bundle, item.path)
                with stream:
                    head = bytes(stream.read(min(item.size_bytes, _TOLD[item.path])))
                told[item.path] = head.decode(errors="replace")
        return {"files": files, "told": told}

    if not found.bundle:
        return {"files": [], "told": {}}
    try:
        contents: dict[str, Any] = await call.services.in_thread(read)
    except (NotFound, Corrupt):
        return {"files": [], "told": {}}
    return contents


def _walk(service: Any, bundle: str) -> list[Entry]:
    """The first files of a version, folder by folder."""
    files: list[Entry] = []
    folders = [""]
    while folders and len(files) < _FILES:
        entries = service.files(bundle, folders.pop(0))
        files += [entry for entry in entries if not entry.is_folder]
        folders += [entry.path for entry in entries if entry.is_folder]
    return files[:_FILES]


async def download(call: Call) -> Response:
    """A file of a version, as a download that no browser interprets."""
    path = call.request.path_params["path"]
    found = await _version(call)
    service = call.services.service("models", call.scope)
    entry, stream = await call.services.in_thread(lambda: service.open_file(found.bundle, path))
    return StreamingResponse(
        _chunks(stream, entry.size_bytes), headers=download_headers(path), media_type=inert_type(path)
    )


def _chunks(stream: BinaryIO, left: int) -> Iterator[bytes]:
    """The bytes of one file of what may be a pack of several."""
    try:
        with stream:
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
    except LoopwrightError:
        return
