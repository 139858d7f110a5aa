"""From our words to what MLflow's REST interface takes. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from loopwright.connect.mlflow.mapping import millis_of
from loopwright.connect.mlflow.model import ORIGIN_TAG, STATE_TAG
from loopwright.track import LoggedModel, Run, RunStatus

RUN_ID, MODEL_ID = "loopwright.run_id", "loopwright.model_id"
EXPORT_STATE, VERSION = "loopwright.export_state", "loopwright.version"
MAX_PARAM, MAX_TAG = 6000, 8000
_KEY = re.compile(r"[/\w.\- :]{1,250}")
_OUR_MARKS = (ORIGIN_TAG, STATE_TAG)
_DOTS = re.compile(r"(^|/)\.{1,2}(/|$)|^/|//|/$")


class _Placed(Protocol):
    @property
    def id(self) -> str:
        """Its id there."""
        ...


def pairs(texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Texts by key as MLflow lists them."""
    return [{"key": key, "value": value} for key, value in texts.items()]


def why_not(key: str) -> str:
    """Why MLflow takes nothing under this key, or nothing."""
    if not _KEY.fullmatch(key) or _DOTS.search(key):
        return "MLflow's keys have letters, digits, '_', '-', '.', ' ', ':' and '/' only, and are plain paths"
    return ""


def carriable(texts: Mapping[str, str], limit: int) -> tuple[dict[str, str], dict[str, str]]:
    """The texts that MLflow takes, and why it does not take the others, by key. Marks of an import stay here."""
    good: dict[str, str] = {}
    bad: dict[str, str] = {}
    for key, text in texts.items():
        if key in _OUR_MARKS:
            continue
        reason = why_not(key)
        if not reason and len(text) > limit:
            reason = f"MLflow's values have at most {limit:,} characters"
        if reason:
            bad[key] = reason
        else:
            good[key] = text
    return good, bad


def creating(run: Run, experiment_id: str) -> dict[str, Any]:
    """What makes a run."""
    user = run.tags.get("mlflow.user", run.actor)
    tags = {RUN_ID: run.id}
    body = {"experiment_id": experiment_id, "run_name": run.name, "user_id": user}
    return {**body, "start_time": millis_of(run.started_at), "tags": pairs(tags)}


def ending(run: Run, id: str) -> dict[str, Any]:
    """What brings a run to its end."""
    body = {"run_id": id, "status": run.status.upper(), "run_name": run.name}
    if run.status is RunStatus.RUNNING or run.ended_at is None:
        return body
    return {**body, "end_time": millis_of(run.ended_at)}


def value_text(value: float | str) -> float | str:
    """A metric's value as JSON can hold it."""
    number = float(value)
    if number != number:
        return "NaN"
    return number if abs(number) != float("inf") else "Infinity" if number > 0 else "-Infinity"


def logged_metrics(
    model: LoggedModel, id: str, runs: Mapping[str, _Placed]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What logs a model's metrics, with the runs that they were measured in; and why some cannot be carried."""
    found: list[dict[str, Any]] = []
    bad: dict[str, str] = {}
    for point in model.metrics:
        run = runs.get(point.run)
        if run is None:
            bad[point.key] = "MLflow keeps a model's metrics with a run, and theirs was not carried"
            continue
        body = {"run_id": run.id, "key": point.key, "value": value_text(point.value), "step": point.step}
        body |= {"timestamp": millis_of(point.at), "model_id": id}
        if point.dataset:
            body |= {"dataset_name": point.dataset, "dataset_digest": point.dataset_digest}
        found.append(body)
    return found, bad
