"""Model versions over MLflow's protocol."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from loopwright.core import Invalid, NotFound
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.model_records import VersionItem, download_uri, version_item
from loopwright.server.protocols.mlflow.records import Item, Pair, texts
from loopwright.server.protocols.mlflow.registry import (
    PROMPT,
    OneVersion,
    stage_of,
    the_model,
    the_version,
    without_prompts,
)
from loopwright.server.protocols.mlflow.sources import Source, source_of, wrong
from loopwright.server.route import Call

if TYPE_CHECKING:
    from loopwright.models import ModelVersion

BASE = "/api/2.0/mlflow/model-versions"
_MAX_PAGE = 200_000


class Create(wire.Request, frozen=True):
    name: str
    source: str
    run_id: str = ""
    tags: list[Pair] = []
    run_link: str = ""
    description: str = ""
    model_id: str = ""


class ByNumber(wire.Request, frozen=True):
    name: str
    version: str


class Describe(wire.Request, frozen=True):
    name: str
    version: str
    description: str = ""


class Transition(wire.Request, frozen=True):
    name: str
    version: str
    stage: str
    archive_existing_versions: bool = False


class Search(wire.Request, frozen=True):
    filter: str = ""
    max_results: int = _MAX_PAGE
    order_by: list[str] = []
    page_token: str = ""


class SetTag(wire.Request, frozen=True):
    name: str
    version: str
    key: str
    value: str = ""


class DeleteTag(wire.Request, frozen=True):
    name: str
    version: str
    key: str


class Page(Item, frozen=True):
    model_versions: list[VersionItem] = []
    next_page_token: str = ""


class Download(Item, frozen=True):
    artifact_uri: str


async def create(call: Call, asked: Create) -> OneVersion:
    """Register a version. Files of ours are kept with it as they are now; any other source is only noted."""
    is_prompt = PROMPT.items() <= texts(asked.tags).items()
    source = Source() if is_prompt else source_of(asked.source, asked.run_id, asked.model_id)
    return await ask(call, lambda rooms: OneVersion(version_item(_register(rooms, asked, source))))


def _register(rooms: Rooms, asked: Create, source: Source) -> ModelVersion:
    the_model(rooms, asked.name)
    run, model_id = asked.run_id, asked.model_id or _logged_in(source)
    if model_id and not run:
        run = rooms.logged_models.get(model_id).source_run
    uri = _pinned(rooms, source) or asked.source
    if source.owner.startswith("run:"):
        run, source = _of_run(rooms, asked, source)
    made = rooms.models.register_source(
        asked.name,
        uri,
        owner=source.owner,
        folder=source.folder,
        copy_of=source.copy_of,
        run=run,
        run_link=asked.run_link,
        model_id=model_id,
        tags=texts(asked.tags),
        description=asked.description,
    )
    if model_id and model_id == _logged_in(source):
        rooms.logged_models.set_tags(model_id, {"mlflow.modelVersions": _registrations(rooms, model_id)})
    return made


def _of_run(rooms: Rooms, asked: Create, source: Source) -> tuple[str, Source]:
    """The run of a source, and the source; of a run that is not ours the files are elsewhere.

    Raises:
        Invalid: the run is ours, and another one is said to be the source's.
    """
    named = source.owner.removeprefix("run:")
    try:
        rooms.runs.get(named)
    except NotFound:
        return asked.run_id or named, Source()
    if asked.run_id not in ("", named):
        wrong(asked.source, "run_id")
    return named, source


def _logged_in(source: Source) -> str:
    return source.owner.removeprefix("model:") if source.owner.startswith("model:") else ""


def _pinned(rooms: Rooms, source: Source) -> str:
    """The source of a copy: the version itself, whatever alias led to it."""
    if not source.copy_of:
        return ""
    held = rooms.models.get(source.copy_of)
    return f"models:/{held.name}/{held.version}"


def _registrations(rooms: Rooms, model_id: str) -> str:
    """The versions of a logged model as MLflow's clients read them from its tag: JSON of names and numbers."""
    made = rooms.models.made_of(model_id)
    return json.dumps([{"name": item.name, "version": item.version} for item in made])


async def get(call: Call, asked: ByNumber) -> OneVersion:
    """One version."""
    return await ask(call, lambda rooms: OneVersion(version_item(the_version(rooms, asked.name, asked.version))))


async def update(call: Call, asked: Describe) -> OneVersion:
    """Describe a version."""

    def work(rooms: Rooms) -> OneVersion:
        held = the_version(rooms, asked.name, asked.version)
        return OneVersion(version_item(rooms.models.tag_version(held.ref, {}, asked.description)))

    return await ask(call, work)


async def transition(call: Call, asked: Transition) -> OneVersion:
    """Move a version to another stage."""
    stage = stage_of(asked.stage)

    def work(rooms: Rooms) -> OneVersion:
        held = the_version(rooms, asked.name, asked.version)
        return OneVersion(version_item(rooms.models.transition(held.ref, stage, asked.archive_existing_versions)))

    return await ask(call, work)


async def delete(call: Call, asked: ByNumber) -> None:
    """Delete a version."""
    await ask(call, lambda rooms: rooms.models.delete_version(the_version(rooms, asked.name, asked.version).ref))


async def search(call: Call, asked: Search) -> Page:
    """A page of versions."""
    if asked.max_results < 1:
        raise Invalid(f"Invalid value for max_results. It must be a positive integer, but got {asked.max_results}")
    filter, hidden = without_prompts(asked.filter)

    def look(rooms: Rooms) -> Page:
        page = rooms.models.search_versions(filter, tuple(asked.order_by), asked.max_results, asked.page_token, hidden)
        return Page([version_item(version) for version in page.versions], page.next)

    return await ask(call, look)


async def download(call: Call, asked: ByNumber) -> Download:
    """Where a version's files are got from."""
    return await ask(call, lambda rooms: Download(_original_uri(rooms, the_version(rooms, asked.name, asked.version))))


def _original_uri(rooms: Rooms, version: ModelVersion) -> str:
    """Where a version's files are got from; those of a copy where those of its original are."""
    seen: set[str] = set()
    while not version.bundle and version.source.startswith("models:/") and version.ref not in seen:
        seen.add(version.ref)
        try:
            version = rooms.models.get(source_of(version.source, "", "").copy_of)
        except (NotFound, Invalid):
            break
    return download_uri(version)


async def set_tag(call: Call, asked: SetTag) -> None:
    """Set a tag."""

    def work(rooms: Rooms) -> None:
        rooms.models.tag_version(the_version(rooms, asked.name, asked.version).ref, {asked.key: asked.value})

    await ask(call, work)


async def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Take a tag off; nothing happens if there is none."""

    def work(rooms: Rooms) -> None:
        rooms.models.tag_version(the_version(rooms, asked.name, asked.version).ref, {asked.key: None})

    await ask(call, work)


ENDPOINTS = (
    Endpoint("POST", f"{BASE}/create", "models:write", Create, create),
    Endpoint("GET", f"{BASE}/get", "models:read", ByNumber, get),
    Endpoint("PATCH", f"{BASE}/update", "models:write", Describe, update),
    Endpoint("POST", f"{BASE}/transition-stage", "models:write", Transition, transition),
    Endpoint("DELETE", f"{BASE}/delete", "models:write", ByNumber, delete),
    Endpoint("GET", f"{BASE}/search", "models:read", Search, search),
    Endpoint("GET", f"{BASE}/get-download-uri", "models:read", ByNumber, download),
    Endpoint("POST", f"{BASE}/set-tag", "models:write", SetTag, set_tag),
    Endpoint("DELETE", f"{BASE}/delete-tag", "models:write", DeleteTag, delete_tag),
)
