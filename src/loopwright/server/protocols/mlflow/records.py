"""MLflow's records as they go over the wire, made from ours. What is empty is left out, as protobuf does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid
from loopwright.track import Value

if TYPE_CHECKING:
    from loopwright.track import Experiment, Run, WholeRun

DEFAULT_ID, DEFAULT_NAME, OUR_DEFAULT = "0", "Default", "default"
"""What MLflow calls the experiment that is always there, and what we call it."""

ACTIVE, DELETED = "active", "deleted"
RUN_NAME, PARENT, USER = "mlflow.runName", "mlflow.parentRunId", "mlflow.user"
LAST_MS = 253_402_300_799_999
"""The last Unix millisecond of the year 9999."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
MAX_TEXT = 10_000


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of the records."""


class Pair(Item, frozen=True):
    """A tag or a param. The key goes out even where it is empty."""

    key: str
    value: str = ""


class ExperimentItem(Item, frozen=True):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: list[Pair] = []


class MetricItem(Item, frozen=True, gc=False):
    """A point of a metric; `timestamp` in Unix milliseconds."""

    key: str
    value: Value
    timestamp: int
    step: int
    run_id: str = ""


class RunInfo(Item, frozen=True):
    run_uuid: str
    run_id: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    artifact_uri: str
    lifecycle_stage: str
    end_time: int | None = None


class RunData(Item, frozen=True):
    metrics: list[MetricItem] = []
    params: list[Pair] = []
    tags: list[Pair] = []


class DatasetItem(Item, frozen=True):
    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""


class DatasetInputItem(Item, frozen=True):
    dataset: DatasetItem
    tags: list[Pair] = []


class ModelItem(Item, frozen=True):
    model_id: str
    step: int = 0


class RunInputs(Item, frozen=True):
    dataset_inputs: list[DatasetInputItem] = []
    model_inputs: list[ModelItem] = []


class RunOutputs(Item, frozen=True):
    model_outputs: list[ModelItem] = []


class RunItem(Item, frozen=True):
    info: RunInfo
    data: RunData
    inputs: RunInputs = RunInputs()
    outputs: RunOutputs = RunOutputs()


def millis(at: datetime) -> int:
    """Unix milliseconds."""
    return (at - _EPOCH) // _MILLISECOND


def moment(name: str, milliseconds: int) -> datetime:
    """The time behind Unix milliseconds.

    Raises:
        Invalid: it is before 1970 or after the year 9999.
    """
    try:
        if milliseconds < 0:
            raise OverflowError
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise Invalid(
            f"{name} is {milliseconds}", next_step="give Unix milliseconds between the years 1970 and 9999"
        ) from None


def pairs(texts: Mapping[str, str]) -> list[Pair]:
    """Texts by key as tags or params."""
    return [Pair(key, value) for key, value in texts.items()]


def texts(given: Iterable[Pair]) -> dict[str, str]:
    """Tags as texts by key; of one that is given twice the last counts."""
    return {pair.key: pair.value for pair in given}


def cut_texts(given: Iterable[Pair]) -> dict[str, str]:
    """Params or tags of a run by key. What is too long is cut, as MLflow's server does, so that no job fails by it."""
    return {key: text[:MAX_TEXT] for key, text in texts(given).items()}


def wire_id(experiment: Experiment) -> str:
    """MLflow's id of an experiment."""
    return DEFAULT_ID if experiment.name == OUR_DEFAULT else experiment.id


def our_id(experiment_id: str) -> str:
    """What our services take for MLflow's id of an experiment."""
    return OUR_DEFAULT if experiment_id in ("", DEFAULT_ID) else experiment_id


def experiment_item(experiment: Experiment) -> ExperimentItem:
    """An experiment in MLflow's words."""
    updated = experiment.updated_at or experiment.created_at
    return ExperimentItem(
        experiment_id=wire_id(experiment),
        name=DEFAULT_NAME if experiment.name == OUR_DEFAULT else experiment.name,
        artifact_location=f"mlflow-artifacts:/{wire_id(experiment)}",
        lifecycle_stage=str(experiment.lifecycle),
        last_update_time=millis(max(updated, experiment.created_at)),
        creation_time=millis(experiment.created_at),
        tags=pairs(experiment.tags),
    )


def metric_items(whole: WholeRun) -> list[MetricItem]:
    """The last point of each metric of a run in MLflow's words."""
    strange: Mapping[str, Any] = whole.run.not_finite  # in the words of JSON
    return [
        MetricItem(point.key, strange.get(point.key, point.value), point.at_us // 1000, point.step)
        for point in whole.latest
    ]


def run_info(run: Run) -> RunInfo:
    """What a run is, without what hangs on it."""
    experiment_id = DEFAULT_ID if run.experiment == OUR_DEFAULT else run.experiment_id
    return RunInfo(
        run_uuid=run.id,
        run_id=run.id,
        run_name=run.name,
        experiment_id=experiment_id,
        user_id=run.tags.get(USER, run.actor),
        status=run.status.upper(),
        start_time=millis(run.started_at),
        end_time=millis(run.ended_at) if run.ended_at else None,
        artifact_uri=f"mlflow-artifacts:/{experiment_id}/{run.id}/artifacts",
        lifecycle_stage=str(run.lifecycle),
    )


def run_item(whole: WholeRun) -> RunItem:
    """A run in MLflow's words."""
    run = whole.run
    data = RunData(metric_items(whole), pairs(run.params), pairs(run.tags))
    datasets = [
        DatasetInputItem(
            DatasetItem(item.name, item.digest, item.source_type, item.source, item.schema, item.profile),
            pairs(item.tags),
        )
        for item in whole.datasets
    ]
    inputs = RunInputs(datasets, [ModelItem(use.model) for use in whole.models_read])
    outputs = RunOutputs([ModelItem(use.model, use.step) for use in whole.models_made])
    return RunItem(run_info(run), data, inputs, outputs)
