"""The words of logged models."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from loopwright.track.model import Value


class LoggedStatus(StrEnum):
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class LoggedMetric(msgspec.Struct, frozen=True):
    """The newest point of a metric of a model, with the run and the dataset that it was measured with."""

    key: str
    value: Value
    step: int
    at: datetime
    run: str = ""
    dataset: str = ""
    dataset_digest: str = ""


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a run made, registered or not. Its files hang on it, not on the run."""

    id: str
    experiment_id: str
    name: str
    created_at: datetime
    updated_at: datetime
    model_type: str = ""
    source_run: str = ""
    status: LoggedStatus = LoggedStatus.PENDING
    status_message: str = ""
    actor: str = ""
    deleted: bool = False
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: tuple[LoggedMetric, ...] = ()


class LoggedModelPage(msgspec.Struct, frozen=True):
    """Logged models of one page; `next` asks for the page after it, and is empty on the last one."""

    models: list[LoggedModel]
    next: str = ""


class LoggedOrder(msgspec.Struct, frozen=True):
    """One key of an order: an attribute, or `metrics.KEY`, perhaps only as measured with one dataset."""

    field: str
    descending: bool = False
    dataset: str = ""
    dataset_digest: str = ""


class DatasetFilter(msgspec.Struct, frozen=True):
    """A dataset that a model's metrics were measured with; without a digest, any state of it."""

    name: str
    digest: str = ""
