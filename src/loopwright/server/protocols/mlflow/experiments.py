"""Experiments over MLflow's protocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from loopwright.core import Conflict, Invalid, NotFound
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.errors import AlreadyExists
from loopwright.server.protocols.mlflow.records import (
    DEFAULT_ID,
    DEFAULT_NAME,
    OUR_DEFAULT,
    ExperimentItem,
    Item,
    Pair,
    experiment_item,
    our_id,
    texts,
)
from loopwright.server.route import Call
from loopwright.track import View

if TYPE_CHECKING:
    from loopwright.track import Experiment, ExperimentPage, ExperimentService

BASE = "/api/2.0/mlflow/experiments"
MAX_PAGE = 50_000
_VIEWS = {"ACTIVE_ONLY": "active", "1": "active", "DELETED_ONLY": "deleted", "2": "deleted", "ALL": "all", "3": "all"}
_DEFAULT_IN_FILTER = re.compile(r"""(\bname`?\s*(?:=|!=|I?LIKE)\s*)(['"])Default\2""", re.IGNORECASE)


class Create(wire.Request, frozen=True):
    name: str
    artifact_location: str = ""
    tags: list[Pair] = []


class ById(wire.Request, frozen=True):
    experiment_id: str


class ByName(wire.Request, frozen=True):
    experiment_name: str


class Update(wire.Request, frozen=True):
    experiment_id: str
    new_name: str


class SetTag(wire.Request, frozen=True):
    experiment_id: str
    key: str
    value: str = ""


class DeleteTag(wire.Request, frozen=True):
    experiment_id: str
    key: str


class Search(wire.Request, frozen=True):
    max_results: int = 0
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: str | int = "ACTIVE_ONLY"


class Made(Item, frozen=True):
    experiment_id: str


class One(Item, frozen=True):
    experiment: ExperimentItem


class Page(Item, frozen=True):
    experiments: list[ExperimentItem]
    next_page_token: str = ""


def view_of(given: str | int) -> View:
    """Our name of a view type.

    Raises:
        Invalid: there is none of that name or number.
    """
    if str(given) not in _VIEWS:
        raise wire.invalid("view_type", given, "use ACTIVE_ONLY, DELETED_ONLY or ALL")
    return View(_VIEWS[str(given)])


async def create(call: Call, asked: Create) -> Made:
    """Make an experiment; where artifacts are kept is the server's affair, so `artifact_location` is not taken up."""
    if asked.name == DEFAULT_NAME:
        raise AlreadyExists(f"Experiment(name={asked.name}) already exists: it has the id {DEFAULT_ID}.")

    def work(rooms: Rooms) -> Experiment:
        find(rooms.experiments, DEFAULT_ID)  # so that it is the oldest
        return rooms.experiments.create(asked.name, texts(asked.tags))

    try:
        made = await ask(call, work)
    except Conflict as conflict:
        raise AlreadyExists(
            f"Experiment(name={asked.name}) already exists: {conflict.message}", next_step=conflict.next_step
        ) from None
    return Made(made.id)


async def get(call: Call, asked: ById) -> One:
    """One experiment, deleted or not."""
    return One(experiment_item(await ask(call, lambda rooms: find(rooms.experiments, asked.experiment_id))))


async def get_by_name(call: Call, asked: ByName) -> One:
    """One experiment by its name."""
    name = asked.experiment_name

    def look(rooms: Rooms) -> Experiment | None:
        service = rooms.experiments
        return find(service, DEFAULT_ID) if name == DEFAULT_NAME else service.find(name)

    experiment = await ask(call, look)
    if experiment is None:
        raise NotFound(f"Could not find experiment with name '{name[:200]}'")
    return One(experiment_item(experiment))


async def search(call: Call, asked: Search) -> Page:
    """A page of experiments."""
    if not 0 <= asked.max_results <= MAX_PAGE:
        raise wire.invalid("max_results", asked.max_results, f"It must be at most {MAX_PAGE}.")

    def look(rooms: Rooms) -> ExperimentPage:
        find(rooms.experiments, DEFAULT_ID)
        return rooms.experiments.search(
            filter=_DEFAULT_IN_FILTER.sub(rf"\1\2{OUR_DEFAULT}\2", asked.filter),
            order_by=tuple(asked.order_by),
            limit=min(asked.max_results or 1000, 10_000),
            after=asked.page_token,
            view=view_of(asked.view_type),
        )

    page = await ask(call, look)
    return Page([experiment_item(experiment) for experiment in page.experiments], page.next)


async def update(call: Call, asked: Update) -> None:
    """Give an experiment another name."""
    if our_id(asked.experiment_id) == OUR_DEFAULT:
        raise Invalid(f"the experiment {DEFAULT_NAME!r} keeps its name", next_step="make another experiment")
    await ask(call, lambda rooms: rooms.experiments.rename(asked.experiment_id, asked.new_name))


async def delete(call: Call, asked: ById) -> None:
    """Delete an experiment with its runs."""
    await ask(call, lambda rooms: rooms.experiments.delete(find(rooms.experiments, asked.experiment_id).id))


async def restore(call: Call, asked: ById) -> None:
    """Bring a deleted experiment back with its runs."""
    await ask(call, lambda rooms: rooms.experiments.restore(find(rooms.experiments, asked.experiment_id).id))


async def set_tag(call: Call, asked: SetTag) -> None:
    """Set a tag."""

    def work(rooms: Rooms) -> None:
        rooms.experiments.set_tag(find(rooms.experiments, asked.experiment_id).id, asked.key, asked.value)

    await ask(call, work)


async def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Take a tag off."""
    await ask(
        call, lambda rooms: rooms.experiments.delete_tag(find(rooms.experiments, asked.experiment_id).id, asked.key)
    )


def find(service: ExperimentService, experiment_id: str) -> Experiment:
    """The experiment of MLflow's id; the default one is made where it is missing.

    Raises:
        NotFound: there is none.
    """
    ours = our_id(experiment_id)
    if ours != OUR_DEFAULT:
        try:
            found = service.get(ours)
        except NotFound as missing:
            raise unknown_experiment(experiment_id, missing.next_step) from None
        if found.id != ours:  # it is one's name
            raise unknown_experiment(experiment_id)
        return found
    default = service.find(OUR_DEFAULT)
    return default if default is not None else _make_default(service)


def unknown_experiment(experiment_id: str, next_step: str = "") -> NotFound:
    """The error for an id that no experiment has."""
    return NotFound(f"No Experiment with id={experiment_id[:60]} exists", next_step=next_step)


def _make_default(service: ExperimentService) -> Experiment:
    try:
        return service.create(OUR_DEFAULT)
    except Conflict:  # another request was quicker
        return service.get(OUR_DEFAULT)


ENDPOINTS = (
    Endpoint("POST", f"{BASE}/create", "runs:write", Create, create),
    Endpoint("GET", f"{BASE}/get", "runs:read", ById, get),
    Endpoint("GET", f"{BASE}/get-by-name", "runs:read", ByName, get_by_name),
    Endpoint("GET", f"{BASE}/search", "runs:read", Search, search),
    Endpoint("POST", f"{BASE}/search", "runs:read", Search, search),
    Endpoint("GET", f"{BASE}/list", "runs:read", Search, search),
    Endpoint("POST", f"{BASE}/update", "runs:write", Update, update),
    Endpoint("POST", f"{BASE}/delete", "runs:write", ById, delete),
    Endpoint("POST", f"{BASE}/restore", "runs:write", ById, restore),
    Endpoint("POST", f"{BASE}/set-experiment-tag", "runs:write", SetTag, set_tag),
    Endpoint("POST", f"{BASE}/delete-experiment-tag", "runs:write", DeleteTag, delete_tag),
)
