"""Registered models, versions and logged models as they go over the wire, made from ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.server.protocols.mlflow.records import DEFAULT_ID, OUR_DEFAULT, Item, Pair, millis, pairs
from loopwright.track import Value

if TYPE_CHECKING:
    from loopwright.models import Model, ModelVersion
    from loopwright.track import LoggedMetric, LoggedModel

_STATUS = {"pending": "LOGGED_MODEL_PENDING", "ready": "LOGGED_MODEL_READY", "failed": "LOGGED_MODEL_UPLOAD_FAILED"}


class VersionItem(Item, frozen=True, kw_only=True):
    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str
    user_id: str = ""
    current_stage: str = "None"
    source: str = ""
    run_id: str = ""
    status: str
    tags: list[Pair] = []
    run_link: str = ""
    aliases: list[str] = []
    model_id: str = ""


class AliasItem(Item, frozen=True):
    alias: str
    version: str


class ModelItem(Item, frozen=True, kw_only=True):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str
    latest_versions: list[VersionItem] = []
    tags: list[Pair] = []
    aliases: list[AliasItem] = []


class LoggedMetricItem(Item, frozen=True):
    """A point of a metric of a logged model; `timestamp` in Unix milliseconds."""

    key: str
    value: Value
    timestamp: int
    step: int
    model_id: str
    run_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LoggedInfo(Item, frozen=True, kw_only=True):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str = ""
    source_run_id: str = ""
    status_message: str = ""
    tags: list[Pair] = []


class LoggedData(Item, frozen=True):
    params: list[Pair] = []
    metrics: list[LoggedMetricItem] = []


class LoggedItem(Item, frozen=True):
    info: LoggedInfo
    data: LoggedData


def version_item(version: ModelVersion) -> VersionItem:
    """A version in MLflow's words. One of ours says of its source where MLflow's client can load its files from."""
    return VersionItem(
        name=version.name,
        version=str(version.version),
        creation_timestamp=millis(version.created_at),
        last_updated_timestamp=millis(version.updated_at or version.created_at),
        user_id=version.actor,
        current_stage=str(version.stage),
        description=version.description,
        source=version.source or download_uri(version),
        run_id=version.run,
        status="READY",
        tags=pairs(version.tags),
        run_link=version.run_link,
        aliases=list(version.aliases),
        model_id=version.model_id,
    )


def download_uri(version: ModelVersion) -> str:
    """Where a version's files are got from: what it holds here, which never changes, else where it says it is."""
    return f"mlflow-artifacts:/bundles/{version.bundle}" if version.bundle else version.source


def model_item(model: Model, latest: Sequence[ModelVersion]) -> ModelItem:
    """A registered model in MLflow's words."""
    return ModelItem(
        name=model.name,
        creation_timestamp=millis(model.created_at),
        last_updated_timestamp=millis(model.updated_at or model.created_at),
        description=model.description,
        latest_versions=[version_item(version) for version in latest],
        tags=pairs(model.tags),
        aliases=[AliasItem(alias, str(version)) for alias, version in sorted(model.aliases.items())],
    )


def logged_item(model: LoggedModel, default_experiment: str) -> LoggedItem:
    """A logged model in MLflow's words. Args: the id of the project's default experiment, which MLflow calls 0."""
    experiment = DEFAULT_ID if model.experiment_id in (default_experiment, OUR_DEFAULT) else model.experiment_id
    info = LoggedInfo(
        model_id=model.id,
        experiment_id=experiment,
        name=model.name,
        creation_timestamp_ms=millis(model.created_at),
        last_updated_timestamp_ms=millis(model.updated_at),
        artifact_uri=f"mlflow-artifacts:/{experiment}/models/{model.id}/artifacts",
        status=_STATUS[model.status],
        model_type=model.model_type,
        source_run_id=model.source_run,
        status_message=model.status_message,
        tags=pairs(model.tags),
    )
    metrics = [_metric_item(model.id, point) for point in model.metrics]
    return LoggedItem(info, LoggedData(pairs(model.params), metrics))


def _metric_item(model: str, point: LoggedMetric) -> LoggedMetricItem:
    at = millis(point.at)
    return LoggedMetricItem(
        point.key, point.value, at, point.step, model, point.run, point.dataset, point.dataset_digest
    )
