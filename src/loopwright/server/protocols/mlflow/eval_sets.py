"""Evaluation datasets over MLflow's protocol: the sets, their records, their tags and the experiments that use them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.experiments import find
from loopwright.server.protocols.mlflow.records import DEFAULT_ID, Item
from loopwright.server.protocols.mlflow.traces import ids_of
from loopwright.server.route import Call
from loopwright.track import EvalRecord, EvalSet, NewEvalRecord

BASE = "/api/3.0/mlflow/datasets"
ONE = f"{BASE}/{{dataset_id}}"
_SOURCES = {"trace": "trace_id"}


class SetItem(Item, frozen=True, kw_only=True):
    """A set; tags, schema and profile are JSON texts, times in milliseconds."""

    dataset_id: str
    name: str
    digest: str
    created_time: int
    last_update_time: int
    tags: str = "{}"
    schema: str | None = None
    profile: str | None = None
    created_by: str = ""
    last_updated_by: str = ""
    experiment_ids: list[str] = []


class Create(wire.Request, frozen=True):
    name: str
    experiment_ids: list[str] = []
    tags: str = ""


class ById(wire.Request, frozen=True):
    dataset_id: str


class Search(wire.Request, frozen=True):
    experiment_ids: list[str] = []
    filter_string: str = ""
    max_results: int = 1000
    order_by: list[str] = []
    page_token: str = ""


class SetTags(wire.Request, frozen=True):
    dataset_id: str
    tags: str


class DeleteTag(wire.Request, frozen=True):
    dataset_id: str
    key: str


class Upsert(wire.Request, frozen=True):
    dataset_id: str
    records: str


class Records(wire.Request, frozen=True):
    dataset_id: str
    max_results: int = 1000
    page_token: str = ""


class DeleteRecords(wire.Request, frozen=True):
    dataset_id: str
    dataset_record_ids: list[str] = []


class Experiments(wire.Request, frozen=True):
    dataset_id: str
    experiment_ids: list[str] = []


class One(Item, frozen=True):
    dataset: SetItem


class Page(Item, frozen=True):
    datasets: list[SetItem] = []
    next_page_token: str = ""


class Counts(msgspec.Struct, frozen=True):
    inserted_count: int
    updated_count: int


class Deleted(msgspec.Struct, frozen=True):
    deleted_count: int


class RecordPage(Item, frozen=True):
    """Records as one JSON text."""

    records: str = "[]"
    next_page_token: str = ""


class ExperimentIds(Item, frozen=True):
    experiment_ids: list[str] = []


def _one(rooms: Rooms, found: EvalSet) -> One:
    return One(_item(found, find(rooms.experiments, DEFAULT_ID).id))


def _item(found: EvalSet, default: str) -> SetItem:
    schema = {**found.fields, "version": "1.0"} if found.fields else None
    return SetItem(
        dataset_id=found.id,
        name=found.name,
        digest=found.digest,
        created_time=_millis(found.created_at),
        last_update_time=_millis(found.updated_at),
        tags=_text(found.tags),
        schema=None if schema is None else _text(schema),
        profile=_text({"num_records": found.records}) if found.fields else None,
        created_by=found.created_by,
        last_updated_by=found.updated_by,
        experiment_ids=[DEFAULT_ID if id == default else id for id in found.experiments],
    )


def _record(found: EvalRecord) -> dict[str, Any]:
    item: dict[str, Any] = {
        "dataset_record_id": found.id,
        "dataset_id": found.eval_set,
        "inputs": found.inputs,
        "tags": found.tags,
        "created_time": _millis(found.created_at),
        "last_update_time": _millis(found.updated_at),
        "created_by": found.created_by,
        "last_updated_by": found.updated_by,
    }
    for name in ("outputs", "expectations", "source"):
        if (value := getattr(found, name)) is not None:
            item[name] = value
    if found.source is not None:
        kind, data = str(found.source.get("source_type", "")), found.source.get("source_data") or {}
        item["source_type"] = kind
        if isinstance(data, dict) and (id := data.get(_SOURCES.get(kind.lower(), "source_id"))):
            item["source_id"] = id
    return item


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _tags(text: str) -> dict[str, str]:
    """Tags in a JSON text."""
    try:
        given = msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise wire.invalid("tags", text, str(error)) from None
    return {key: value if isinstance(value, str) else _text(value) for key, value in given.items()}


def _new_records(text: str) -> list[NewEvalRecord]:
    """Records in a JSON text."""
    try:
        return msgspec.json.decode(text, type=list[NewEvalRecord])
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise wire.invalid("records", text, str(error)) from None


async def create(call: Call, asked: Create) -> One:
    """A new set without records."""
    tags = _tags(asked.tags)

    def work(rooms: Rooms) -> One:
        among = ids_of(rooms, asked.experiment_ids)
        return _one(rooms, rooms.eval_sets.create(asked.name, among, tags, tags.get("mlflow.user", "")))

    return await ask(call, work)


async def get(call: Call, asked: ById) -> One:
    """One set, without its records."""
    return await ask(call, lambda rooms: _one(rooms, rooms.eval_sets.get(asked.dataset_id)))


async def delete(call: Call, asked: ById) -> None:
    """Delete a set for good."""
    await ask(call, lambda rooms: rooms.eval_sets.delete(asked.dataset_id))


async def search(call: Call, asked: Search) -> Page:
    """A page of sets."""

    def look(rooms: Rooms) -> Page:
        among = ids_of(rooms, asked.experiment_ids) if asked.experiment_ids else None
        page = rooms.eval_sets.search(
            among, asked.filter_string, asked.order_by, min(asked.max_results, 1000), asked.page_token
        )
        default = find(rooms.experiments, DEFAULT_ID).id
        return Page([_item(found, default) for found in page.sets], page.next)

    return await ask(call, look)


async def set_tags(call: Call, asked: SetTags) -> One:
    """Set tags."""
    tags = _tags(asked.tags)
    return await ask(call, lambda rooms: _one(rooms, rooms.eval_sets.set_tags(asked.dataset_id, tags)))


async def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Take a tag off."""
    await ask(call, lambda rooms: rooms.eval_sets.delete_tag(asked.dataset_id, asked.key))


async def upsert(call: Call, asked: Upsert) -> Counts:
    """Add records, or change those with the same inputs."""
    records = _new_records(asked.records)
    done = await ask(call, lambda rooms: rooms.eval_sets.upsert(asked.dataset_id, records))
    return Counts(done.inserted, done.updated)


async def records(call: Call, asked: Records) -> RecordPage:
    """A page of records."""
    limit = min(asked.max_results, 1000)
    page = await ask(call, lambda rooms: rooms.eval_sets.records(asked.dataset_id, limit, asked.page_token))
    return RecordPage(_text([_record(found) for found in page.records]), page.next)


async def delete_records(call: Call, asked: DeleteRecords) -> Deleted:
    """Delete records."""
    gone = await ask(call, lambda rooms: rooms.eval_sets.delete_records(asked.dataset_id, asked.dataset_record_ids))
    return Deleted(gone)


async def experiment_ids(call: Call, asked: ById) -> ExperimentIds:
    """The experiments that use a set."""
    found = await ask(call, lambda rooms: _one(rooms, rooms.eval_sets.get(asked.dataset_id)))
    return ExperimentIds(found.dataset.experiment_ids)


async def add(call: Call, asked: Experiments) -> One:
    """Tell that experiments use a set."""

    def work(rooms: Rooms) -> One:
        return _one(rooms, rooms.eval_sets.use(asked.dataset_id, ids_of(rooms, asked.experiment_ids)))

    return await ask(call, work)


async def remove(call: Call, asked: Experiments) -> One:
    """Tell that experiments use a set no longer."""

    def work(rooms: Rooms) -> One:
        return _one(rooms, rooms.eval_sets.disuse(asked.dataset_id, ids_of(rooms, asked.experiment_ids)))

    return await ask(call, work)


ENDPOINTS = (
    Endpoint("POST", f"{BASE}/create", "runs:write", Create, create),
    Endpoint("POST", f"{BASE}/search", "runs:read", Search, search),
    Endpoint("GET", f"{BASE}/search", "runs:read", Search, search),
    Endpoint("GET", ONE, "runs:read", ById, get),
    Endpoint("DELETE", ONE, "runs:write", ById, delete),
    Endpoint("PATCH", f"{ONE}/tags", "runs:write", SetTags, set_tags),
    Endpoint("DELETE", f"{ONE}/tags/{{key}}", "runs:write", DeleteTag, delete_tag),
    Endpoint("POST", f"{ONE}/records", "runs:write", Upsert, upsert),
    Endpoint("GET", f"{ONE}/records", "runs:read", Records, records),
    Endpoint("DELETE", f"{ONE}/records", "runs:write", DeleteRecords, delete_records),
    Endpoint("GET", f"{ONE}/experiment-ids", "runs:read", ById, experiment_ids),
    Endpoint("POST", f"{ONE}/add-experiments", "runs:write", Experiments, add),
    Endpoint("POST", f"{ONE}/remove-experiments", "runs:write", Experiments, remove),
)
