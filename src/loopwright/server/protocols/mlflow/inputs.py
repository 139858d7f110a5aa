"""What runs read and made, over MLflow's protocol: datasets, logged models, and the old note of a model."""

from __future__ import annotations

import json
from typing import Any

from loopwright.core import Invalid
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.experiments import find
from loopwright.server.protocols.mlflow.records import DatasetInputItem, Item, ModelItem, texts, wire_id
from loopwright.server.route import Call
from loopwright.track import DatasetUse, ModelUse

BASE = "/api/2.0/mlflow"
MAX_EXPERIMENTS = 20
HISTORY = "mlflow.log-model.history"
_MAX_TEXT = 10_000
_FIELDS = {"artifact_path", "flavors", "utc_time_created", "run_id"}
_NOTED = ("run_id", "artifact_path", "utc_time_created", "model_uuid", "flavors")


class LogInputs(wire.Request, frozen=True):
    run_id: str
    datasets: list[DatasetInputItem] = []
    models: list[ModelItem] = []


class LogOutputs(wire.Request, frozen=True):
    run_id: str
    models: list[ModelItem]


class LogModel(wire.Request, frozen=True):
    run_id: str
    model_json: str


class SearchDatasets(wire.Request, frozen=True):
    experiment_ids: list[str] = []


class DatasetSummaryItem(Item, frozen=True):
    experiment_id: str
    name: str
    digest: str
    context: str = ""


class Summaries(Item, frozen=True):
    dataset_summaries: list[DatasetSummaryItem]


async def log_inputs(call: Call, asked: LogInputs) -> None:
    """Note the datasets and logged models that a run read."""
    datasets = [
        DatasetUse(
            name=item.dataset.name,
            digest=item.dataset.digest,
            source_type=item.dataset.source_type,
            source=item.dataset.source,
            schema=item.dataset.schema,
            profile=item.dataset.profile,
            tags=texts(item.tags),
        )
        for item in asked.datasets
    ]
    models = [ModelUse(item.model_id, item.step) for item in asked.models]
    await ask(call, lambda rooms: rooms.runs.log_datasets(asked.run_id, datasets, models))


async def log_outputs(call: Call, asked: LogOutputs) -> None:
    """Note the logged models that a run made."""
    models = [ModelUse(item.model_id, item.step) for item in asked.models]
    await ask(call, lambda rooms: rooms.runs.log_models(asked.run_id, models))


async def log_model(call: Call, asked: LogModel) -> None:
    """Add a model to the run's tag that lists its models, as clients before 3.0 do."""
    noted = _noted(asked.model_json)

    def work(rooms: Rooms) -> None:
        before = _listed(rooms.runs.get(asked.run_id).tags.get(HISTORY, ""))
        rooms.runs.set_tags(asked.run_id, {HISTORY: _fitting([*before, noted])})

    await ask(call, work)


async def search_datasets(call: Call, asked: SearchDatasets) -> Summaries:
    """The datasets that runs of some experiments read."""
    if not asked.experiment_ids:
        raise Invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(asked.experiment_ids) > MAX_EXPERIMENTS:
        raise Invalid(
            f"SearchDatasets request cannot specify more than {MAX_EXPERIMENTS} experiment_ids. "
            f"Received {len(asked.experiment_ids)} experiment_ids."
        )

    def work(rooms: Rooms) -> Summaries:
        ids = {(found := find(rooms.experiments, given)).id: wire_id(found) for given in asked.experiment_ids}
        return Summaries(
            [
                DatasetSummaryItem(ids[item.experiment_id], item.name, item.digest, item.context)
                for item in rooms.runs.datasets(list(ids))
            ]
        )

    return await ask(call, work)


def _noted(text: str) -> dict[str, Any]:
    """What the tag keeps of a model's description."""
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        model = None
    if not isinstance(model, dict):
        raise Invalid(f"Malformed model info. \n {text[:200]} \n is not a valid JSON.")
    missing = _FIELDS - model.keys()
    if missing:
        raise Invalid(f"Model json is missing mandatory fields: {missing}")
    return {name: model[name] for name in _NOTED if name in model}


def _listed(text: str) -> list[Any]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _fitting(models: list[Any]) -> str:
    """The newest of the models that a tag can hold."""
    while len(models) > 1 and len(json.dumps(models)) > _MAX_TEXT:
        models = models[1:]
    return json.dumps(models)


ENDPOINTS = (
    Endpoint("POST", f"{BASE}/runs/log-inputs", "runs:write", LogInputs, log_inputs),
    Endpoint("POST", f"{BASE}/runs/outputs", "runs:write", LogOutputs, log_outputs),
    Endpoint("POST", f"{BASE}/runs/log-model", "runs:write", LogModel, log_model),
    Endpoint("POST", f"{BASE}/experiments/search-datasets", "runs:read", SearchDatasets, search_datasets),
)
