"""Runs as wholes over MLflow's protocol: created, changed, found, deleted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Invalid, NotFound, is_id, new_id
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.experiments import find, unknown_experiment, view_of
from loopwright.server.protocols.mlflow.records import (
    DEFAULT_ID,
    OUR_DEFAULT,
    PARENT,
    RUN_NAME,
    USER,
    Item,
    Pair,
    RunInfo,
    RunItem,
    cut_texts,
    moment,
    our_id,
    run_info,
    run_item,
)
from loopwright.server.route import Call
from loopwright.store import refuse_nul
from loopwright.track import WholeRun

if TYPE_CHECKING:
    from loopwright.track import RunStatus

BASE = "/api/2.0/mlflow/runs"
MAX_PAGE = 50_000
DEFAULT_PAGE = 1000
_OUR_PAGE = 10_000
_DEFAULT_PLACE = re.compile(r"""(\bartifact_uri`?\s*(?:=|!=|I?LIKE)\s*['"]mlflow-artifacts:)/0/""", re.IGNORECASE)
_STATUSES = {
    **dict.fromkeys(("RUNNING", "1", "SCHEDULED", "2"), "running"),
    **dict.fromkeys(("FINISHED", "3"), "finished"),
    **dict.fromkeys(("FAILED", "4"), "failed"),
    **dict.fromkeys(("KILLED", "5"), "killed"),
}


class Create(wire.Request, frozen=True):
    experiment_id: str = DEFAULT_ID
    user_id: str = ""
    run_name: str = ""
    start_time: int = 0
    tags: list[Pair] = []


class ById(wire.Request, frozen=True):
    run_id: str


class Update(wire.Request, frozen=True):
    run_id: str
    status: str | int | None = None
    end_time: int | None = None
    run_name: str = ""


class Search(wire.Request, frozen=True):
    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: str | int = "ACTIVE_ONLY"
    max_results: int = DEFAULT_PAGE
    order_by: list[str] = []
    page_token: str = ""


class One(Item, frozen=True):
    run: RunItem


class Info(Item, frozen=True):
    run_info: RunInfo


class Page(Item, frozen=True):
    runs: msgspec.Raw
    next_page_token: str = ""


async def create(call: Call, asked: Create) -> One:
    """Start a run. Its name is also a tag, and so is who started it."""
    tags = cut_texts(asked.tags)
    named = tags.get(RUN_NAME, "")
    if asked.run_name and named and asked.run_name != named:
        raise Invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{asked.run_name[:100]}', mlflow.runName='{named[:100]}')."
        )
    if asked.user_id:
        tags.setdefault(USER, asked.user_id)
    name = asked.run_name or named or f"run-{new_id()[-6:]}"
    started_at = moment("start_time", asked.start_time) if asked.start_time else None

    def work(rooms: Rooms) -> RunItem:
        id = asked.experiment_id
        if our_id(id) == OUR_DEFAULT:
            id = find(rooms.experiments, id).id
        parent = _known_parent(rooms, tags.get(PARENT, ""))
        try:
            run = rooms.runs.start_in(id, name, {**tags, RUN_NAME: name}, parent, started_at)
        except NotFound as missing:
            raise unknown_experiment(id, missing.next_step) from None
        return run_item(WholeRun(run))

    return One(await ask(call, work))


async def get(call: Call, asked: ById) -> One:
    """One run, deleted or not."""
    return One(await ask(call, lambda rooms: run_item(rooms.runs.whole(asked.run_id))))


async def update(call: Call, asked: Update) -> Info:
    """Change a run's status, end or name; one that has ended may run again."""
    status = None if asked.status is None else status_of(asked.status)
    ended_at = None if asked.end_time is None else moment("end_time", asked.end_time)
    if status == "running":
        ended_at = None

    def work(rooms: Rooms) -> RunInfo:
        if asked.run_name:
            rooms.runs.set_tags(asked.run_id, {RUN_NAME: asked.run_name})
        return run_info(rooms.runs.update(asked.run_id, asked.run_name, status, ended_at))

    return Info(await ask(call, work))


async def delete(call: Call, asked: ById) -> None:
    """Delete a run."""
    await ask(call, lambda rooms: rooms.runs.delete(asked.run_id))


async def restore(call: Call, asked: ById) -> None:
    """Bring a deleted run back."""
    await ask(call, lambda rooms: rooms.runs.restore(asked.run_id))


async def search(call: Call, asked: Search) -> Page:
    """A page of runs."""
    if not 0 < asked.max_results <= MAX_PAGE:
        raise wire.invalid("max_results", asked.max_results, f"It must be between 1 and {MAX_PAGE}.")
    if not asked.experiment_ids:
        return Page(msgspec.Raw(b"[]"))

    def work(rooms: Rooms) -> Page:
        texts, following = rooms.runs.search_rendered(
            "mlflow",
            _rendered,
            filter=_our_places(rooms, asked.filter),
            experiments=_experiments(rooms, asked.experiment_ids),
            limit=min(asked.max_results, _OUR_PAGE),
            after=asked.page_token,
            order_by=tuple(asked.order_by),
            view=view_of(asked.run_view_type),
        )
        return Page(msgspec.Raw(b"[%b]" % b",".join(texts)), following)

    return await ask(call, work)


def _rendered(whole: WholeRun) -> bytes:
    return msgspec.json.encode(run_item(whole))


def status_of(given: str | int) -> RunStatus:
    """Our status for MLflow's; a scheduled run counts as running.

    Raises:
        Invalid: there is none of that name or number.
    """
    from loopwright.track import RunStatus

    found = _STATUSES.get(str(given).upper())
    if found is None:
        raise wire.invalid("status", given, "use RUNNING, SCHEDULED, FINISHED, FAILED or KILLED")
    return RunStatus(found)


def _known_parent(rooms: Rooms, parent: str) -> str:
    """The parent, if it is a run of this project; MLflow's tag may name anything."""
    if not is_id(parent):
        return ""
    try:
        return rooms.runs.get(parent).id
    except NotFound:
        return ""


def _our_places(rooms: Rooms, filter: str) -> str:
    """The filter with our id in artifact addresses of the default experiment, which MLflow's clients know as 0."""
    if _DEFAULT_PLACE.search(filter) is None:
        return filter
    return _DEFAULT_PLACE.sub(rf"\1/{find(rooms.experiments, DEFAULT_ID).id}/", filter)


def _experiments(rooms: Rooms, given: list[str]) -> list[str]:
    """Our ids of experiments. None but the default one is looked up: a search finds nothing in what is not there."""
    for id in given:
        refuse_nul(id)
    ids = dict.fromkeys(map(our_id, given))
    if OUR_DEFAULT in ids:
        ids[find(rooms.experiments, DEFAULT_ID).id] = ids.pop(OUR_DEFAULT)
    return list(ids)


ENDPOINTS = (
    Endpoint("POST", f"{BASE}/create", "runs:write", Create, create),
    Endpoint("GET", f"{BASE}/get", "runs:read", ById, get),
    Endpoint("POST", f"{BASE}/update", "runs:write", Update, update),
    Endpoint("POST", f"{BASE}/delete", "runs:write", ById, delete),
    Endpoint("POST", f"{BASE}/restore", "runs:write", ById, restore),
    Endpoint("POST", f"{BASE}/search", "runs:read", Search, search),
)
