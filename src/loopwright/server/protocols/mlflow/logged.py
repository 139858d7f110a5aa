"""Logged models over MLflow's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core import Invalid
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.artifacts import FileItem, file_items
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.experiments import find
from loopwright.server.protocols.mlflow.model_records import LoggedItem, logged_item
from loopwright.server.protocols.mlflow.places import safe
from loopwright.server.protocols.mlflow.records import DEFAULT_ID, Item, Pair, our_id, texts
from loopwright.server.route import Call
from loopwright.track import DatasetFilter, LoggedOrder, LoggedStatus

if TYPE_CHECKING:
    from loopwright.track import LoggedModel

BASE = "/api/2.0/mlflow/logged-models"
_STATUSES = {
    **dict.fromkeys(("1", "LOGGED_MODEL_PENDING"), LoggedStatus.PENDING),
    **dict.fromkeys(("2", "LOGGED_MODEL_READY"), LoggedStatus.READY),
    **dict.fromkeys(("3", "LOGGED_MODEL_UPLOAD_FAILED"), LoggedStatus.FAILED),
}


class Create(wire.Request, frozen=True):
    experiment_id: str
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Pair] = []
    tags: list[Pair] = []


class ById(wire.Request, frozen=True):
    model_id: str
    allow_deleted: str | bool = False


class Finalize(wire.Request, frozen=True):
    model_id: str
    status: str | int


class Params(wire.Request, frozen=True):
    model_id: str
    params: list[Pair] = []


class Tags(wire.Request, frozen=True):
    model_id: str
    tags: list[Pair] = []


class DeleteTag(wire.Request, frozen=True):
    model_id: str
    tag_key: str


class Dataset(Item, frozen=True):
    dataset_name: str = ""
    dataset_digest: str = ""


class OrderBy(Item, frozen=True):
    field_name: str = ""
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class Search(wire.Request, frozen=True):
    experiment_ids: list[str]
    filter: str = ""
    datasets: list[Dataset] = []
    max_results: int = 50
    order_by: list[OrderBy] = []
    page_token: str = ""


class Folder(wire.Request, frozen=True):
    model_id: str
    artifact_directory_path: str = ""


class One(Item, frozen=True):
    model: LoggedItem


class Page(Item, frozen=True):
    models: list[LoggedItem] = []
    next_page_token: str = ""


class Files(Item, frozen=True):
    root_uri: str
    files: list[FileItem] = []


def _one(rooms: Rooms, model: LoggedModel) -> One:
    return One(logged_item(model, find(rooms.experiments, DEFAULT_ID).id))


async def create(call: Call, asked: Create) -> One:
    """Make a logged model; its files are to follow."""
    if any(sign in asked.name for sign in "/:.%\"'"):
        raise Invalid(f"Invalid model name ({asked.name[:60]}) provided: it holds '/', ':', '.', '%', '\"' or \"'\"")

    def work(rooms: Rooms) -> One:
        made = rooms.logged_models.create(
            find(rooms.experiments, asked.experiment_id).id,
            asked.name,
            asked.model_type,
            asked.source_run_id,
            texts(asked.params),
            texts(asked.tags),
        )
        return _one(rooms, made)

    return await ask(call, work)


async def get(call: Call, asked: ById) -> One:
    """One logged model."""
    deleted = str(asked.allow_deleted).lower() == "true"
    return await ask(call, lambda rooms: _one(rooms, rooms.logged_models.get(asked.model_id, deleted)))


async def finalize(call: Call, asked: Finalize) -> One:
    """Say that a model's files are there, or will not come."""
    status = _STATUSES.get(str(asked.status))
    if status is None:
        raise wire.invalid("status", asked.status, f"use one of {', '.join(_STATUSES)}")
    return await ask(call, lambda rooms: _one(rooms, rooms.logged_models.finalize(asked.model_id, status)))


async def delete(call: Call, asked: ById) -> None:
    """Delete a logged model."""
    await ask(call, lambda rooms: rooms.logged_models.delete(asked.model_id))


async def log_params(call: Call, asked: Params) -> None:
    """Add params."""
    await ask(call, lambda rooms: rooms.logged_models.log_params(asked.model_id, texts(asked.params)))


async def set_tags(call: Call, asked: Tags) -> One:
    """Set tags."""
    return await ask(call, lambda rooms: _one(rooms, rooms.logged_models.set_tags(asked.model_id, texts(asked.tags))))


async def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Take a tag off."""
    await ask(call, lambda rooms: rooms.logged_models.delete_tag(asked.model_id, asked.tag_key))


async def search(call: Call, asked: Search) -> Page:
    """A page of logged models."""
    datasets = [DatasetFilter(item.dataset_name, item.dataset_digest) for item in asked.datasets]
    if not all(item.name for item in datasets):
        raise Invalid("`dataset_name` in the `datasets` clause must be specified.")
    order = [
        LoggedOrder(item.field_name, not item.ascending, item.dataset_name, item.dataset_digest)
        for item in asked.order_by
    ]

    def look(rooms: Rooms) -> Page:
        default = find(rooms.experiments, DEFAULT_ID).id
        ids = [default if our_id(item) != item else item for item in asked.experiment_ids]
        page = rooms.logged_models.search(ids, asked.filter, datasets, order, asked.max_results, asked.page_token)
        return Page([logged_item(model, default) for model in page.models], page.next)

    return await ask(call, look)


async def list_files(call: Call, asked: Folder) -> Files:
    """What lies in a folder of a logged model."""
    folder = safe(asked.artifact_directory_path) if asked.artifact_directory_path.strip("/") else ""

    def look(rooms: Rooms) -> Files:
        held = _one(rooms, rooms.logged_models.get(asked.model_id)).model.info
        return Files(held.artifact_uri, file_items(rooms.artifacts.list(f"model:{held.model_id}", folder)))

    return await ask(call, look)


ENDPOINTS = (
    Endpoint("POST", BASE, "runs:write", Create, create),
    Endpoint("POST", f"{BASE}/search", "runs:read", Search, search),
    Endpoint("GET", f"{BASE}/{{model_id}}", "runs:read", ById, get),
    Endpoint("PATCH", f"{BASE}/{{model_id}}", "runs:write", Finalize, finalize),
    Endpoint("DELETE", f"{BASE}/{{model_id}}", "runs:write", ById, delete),
    Endpoint("POST", f"{BASE}/{{model_id}}/params", "runs:write", Params, log_params),
    Endpoint("PATCH", f"{BASE}/{{model_id}}/tags", "runs:write", Tags, set_tags),
    Endpoint("DELETE", f"{BASE}/{{model_id}}/tags/{{tag_key:path}}", "runs:write", DeleteTag, delete_tag),
    Endpoint("GET", f"{BASE}/{{model_id}}/artifacts/directories", "runs:read", Folder, list_files),
)
