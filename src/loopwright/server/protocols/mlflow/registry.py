"""Registered models over MLflow's protocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from loopwright.core import Conflict, Invalid, NotFound, Ref
from loopwright.models import Stage
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.errors import AlreadyExists
from loopwright.server.protocols.mlflow.model_records import ModelItem, VersionItem, model_item, version_item
from loopwright.server.protocols.mlflow.records import Item, Pair, texts
from loopwright.server.route import Call

if TYPE_CHECKING:
    from loopwright.models import Model, ModelVersion

BASE = "/api/2.0/mlflow/registered-models"
PROMPT = {"mlflow.prompt.is_prompt": "true"}
"""The tag by which MLflow keeps its prompts among the models; a search leaves them out unless it asks for them."""

_ASKS_PROMPT = re.compile(
    r"\s*(?:\bAND\b\s*)?tags?\.[`\"]?mlflow\.prompt\.is_prompt[`\"]?\s*(=|!=)\s*['\"](true|false)['\"]", re.IGNORECASE
)
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_STAGES = {stage.lower(): stage for stage in Stage}
S = TypeVar("S")


class Create(wire.Request, frozen=True):
    name: str
    tags: list[Pair] = []
    description: str = ""


class Named(wire.Request, frozen=True):
    name: str


class Describe(wire.Request, frozen=True):
    name: str
    description: str = ""


class Rename(wire.Request, frozen=True):
    name: str
    new_name: str


class Search(wire.Request, frozen=True):
    filter: str = ""
    max_results: int = 100
    order_by: list[str] = []
    page_token: str = ""


class Latest(wire.Request, frozen=True):
    name: str
    stages: list[str] = []


class SetTag(wire.Request, frozen=True):
    name: str
    key: str
    value: str = ""


class DeleteTag(wire.Request, frozen=True):
    name: str
    key: str


class SetAlias(wire.Request, frozen=True):
    name: str
    alias: str
    version: str


class ByAlias(wire.Request, frozen=True):
    name: str
    alias: str


class One(Item, frozen=True):
    registered_model: ModelItem


class Page(Item, frozen=True):
    registered_models: list[ModelItem] = []
    next_page_token: str = ""


class Versions(Item, frozen=True):
    model_versions: list[VersionItem] = []


class OneVersion(Item, frozen=True):
    model_version: VersionItem


def the_model(rooms: Rooms, name: str) -> Model:
    """The model of exactly this name; a name that was given up leads nowhere here.

    Raises:
        NotFound: there is none.
    """
    if not name.strip():
        raise wire.missing("name")
    try:
        found = rooms.models.named(name)
    except (NotFound, Invalid):
        found = None
    if found is None or found.name != name:
        raise NotFound(f"Registered Model with name={name[:256]} not found")
    return found


def the_version(rooms: Rooms, name: str, version: str) -> ModelVersion:
    """The version of exactly this name and number.

    Raises:
        NotFound: there is none.
        Invalid: the number is none.
    """
    number = number_of(version)
    the_model(rooms, name)
    try:
        return rooms.models.get(str(Ref("model", name, str(number))))
    except NotFound:
        raise NotFound(f"Model Version (name={name}, version={version}) not found") from None


def number_of(version: str) -> int:
    """A version's number.

    Raises:
        Invalid: it is none.
    """
    if not version.isdecimal() or len(version) > 9:
        raise Invalid(f"Parameter 'version' must be an integer, got '{version[:60]}'.")
    return int(version)


def stage_of(name: str) -> Stage:
    """A stage, in whatever case it is written.

    Raises:
        Invalid: there is none of that name.
    """
    found = _STAGES.get(name.lower())
    if found is None:
        known = ", ".join(Stage)
        raise Invalid(f"Invalid Model Version stage: {name[:60]}. Value must be one of {known}.")
    return found


def without_prompts(filter: str) -> tuple[str, dict[str, str]]:
    """The filter as our search takes it, and the tags of what it leaves out: prompts, unless they are asked for."""
    asked = _ASKS_PROMPT.search(filter)
    wanted = asked is not None and (asked[1] == "=") == (asked[2].lower() == "true")
    if wanted:
        return filter, {}
    rest = _ASKS_PROMPT.sub("", filter).strip()
    return re.sub(r"^AND\b\s*", "", rest, flags=re.IGNORECASE), PROMPT


async def create(call: Call, asked: Create) -> One:
    """Register a name."""

    def work(rooms: Rooms) -> One:
        try:
            made = rooms.models.create(asked.name, texts(asked.tags), asked.description)
        except Conflict:
            raise AlreadyExists(f"Registered Model (name={asked.name}) already exists.") from None
        return One(model_item(made, ()))

    return await ask(call, work)


def _one(rooms: Rooms, model: Model) -> One:
    return One(model_item(model, rooms.models.latest((model.name,))))


async def get(call: Call, asked: Named) -> One:
    """One model, with the newest version in each stage."""
    return await ask(call, lambda rooms: _one(rooms, the_model(rooms, asked.name)))


async def update(call: Call, asked: Describe) -> One:
    """Describe a model."""

    def work(rooms: Rooms) -> One:
        return _one(rooms, rooms.models.describe(the_model(rooms, asked.name).name, asked.description))

    return await ask(call, work)


async def rename(call: Call, asked: Rename) -> One:
    """Give a model another name."""

    def work(rooms: Rooms) -> One:
        held = the_model(rooms, asked.name)
        try:
            return _one(rooms, rooms.models.rename(held.name, asked.new_name))
        except Conflict as conflict:
            raise AlreadyExists(
                f"Registered Model (name={asked.new_name}) already exists: {conflict.message}"
            ) from None

    return await ask(call, work)


async def delete(call: Call, asked: Named) -> None:
    """Delete a model with its versions."""
    await ask(call, lambda rooms: rooms.models.delete(the_model(rooms, asked.name).name))


async def search(call: Call, asked: Search) -> Page:
    """A page of models."""
    filter, hidden = without_prompts(asked.filter)

    def look(rooms: Rooms) -> Page:
        page = rooms.models.search(filter, tuple(asked.order_by), asked.max_results, asked.page_token, hidden)
        newest = rooms.models.latest(tuple(model.name for model in page.models))
        items = [
            model_item(model, [version for version in newest if version.name == model.name]) for model in page.models
        ]
        return Page(items, page.next)

    return await ask(call, look)


async def latest(call: Call, asked: Latest) -> Versions:
    """The newest version in each stage, or in those that are named."""

    def look(rooms: Rooms) -> Versions:
        held = the_model(rooms, asked.name)
        found = rooms.models.latest((held.name,), tuple(stage_of(stage) for stage in asked.stages))
        return Versions([version_item(version) for version in found])

    return await ask(call, look)


async def set_tag(call: Call, asked: SetTag) -> None:
    """Set a tag."""
    await ask(
        call, lambda rooms: rooms.models.describe(the_model(rooms, asked.name).name, tags={asked.key: asked.value})
    )


async def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Take a tag off; nothing happens if there is none."""
    await ask(call, lambda rooms: rooms.models.describe(the_model(rooms, asked.name).name, tags={asked.key: None}))


async def set_alias(call: Call, asked: SetAlias) -> None:
    """Point an alias at a version."""
    if _RESERVED_ALIAS.fullmatch(asked.alias):
        raise Invalid(f"'{asked.alias}' alias name is reserved.")

    def work(rooms: Rooms) -> None:
        held = the_version(rooms, asked.name, asked.version)
        rooms.models.set_alias(held.name, asked.alias, held.version)

    await ask(call, work)


async def delete_alias(call: Call, asked: ByAlias) -> None:
    """Take an alias away; nothing happens if there is none."""

    def work(rooms: Rooms) -> None:
        if asked.alias in the_model(rooms, asked.name).aliases:
            rooms.models.remove_alias(asked.name, asked.alias)

    await ask(call, work)


async def by_alias(call: Call, asked: ByAlias) -> OneVersion:
    """The version that an alias points at."""

    def look(rooms: Rooms) -> OneVersion:
        held = the_model(rooms, asked.name)
        if asked.alias.lower() != "latest" and asked.alias not in held.aliases:
            raise Invalid(f"Registered model alias {asked.alias[:256]} not found.")
        selector = "" if asked.alias.lower() == "latest" else asked.alias
        return OneVersion(version_item(rooms.models.get(str(Ref("model", held.name, selector)))))

    return await ask(call, look)


ENDPOINTS = (
    Endpoint("POST", f"{BASE}/create", "models:write", Create, create),
    Endpoint("GET", f"{BASE}/get", "models:read", Named, get),
    Endpoint("PATCH", f"{BASE}/update", "models:write", Describe, update),
    Endpoint("POST", f"{BASE}/rename", "models:write", Rename, rename),
    Endpoint("DELETE", f"{BASE}/delete", "models:write", Named, delete),
    Endpoint("GET", f"{BASE}/search", "models:read", Search, search),
    Endpoint("GET", f"{BASE}/get-latest-versions", "models:read", Latest, latest),
    Endpoint("POST", f"{BASE}/get-latest-versions", "models:read", Latest, latest),
    Endpoint("POST", f"{BASE}/set-tag", "models:write", SetTag, set_tag),
    Endpoint("DELETE", f"{BASE}/delete-tag", "models:write", DeleteTag, delete_tag),
    Endpoint("POST", f"{BASE}/alias", "models:write", SetAlias, set_alias),
    Endpoint("DELETE", f"{BASE}/alias", "models:write", ByAlias, delete_alias),
    Endpoint("GET", f"{BASE}/alias", "models:read", ByAlias, by_alias),
)
