"""Sending what hangs on a run or logged model to an MLflow server, in requests of the sizes that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from loopwright.connect.mlflow.api import V2, MlflowApi
from loopwright.connect.mlflow.model import Report
from loopwright.connect.mlflow.outgoing import (
    MAX_PARAM,
    MAX_TAG,
    MODEL_ID,
    RUN_ID,
    carriable,
    pairs,
    value_text,
    why_not,
)
from loopwright.connect.mlflow.rest import ProxiedFiles
from loopwright.core import LoopwrightError, Unavailable
from loopwright.track import LoggedModel, LoggedStatus, Run, RunContents
from loopwright.workspace import Workspace

_METRICS, _TEXTS, _HISTORY = 1000, 100, 50_000
_PARENT = "mlflow.parentRunId"


class Place(msgspec.Struct, frozen=True):
    """Where something of ours is there: its id, and its artifact location."""

    id: str
    uri: str


def send_texts(api: MlflowApi, run: Run, id: str, runs: Mapping[str, Place], report: Report) -> None:
    """Send params and tags. A parent is named by its id there, if it was carried."""
    params, bad_params = carriable(run.params, MAX_PARAM)
    tags, bad_tags = carriable({**run.tags, RUN_ID: run.id}, MAX_TAG)
    parent = runs.get(run.parent or tags.get(_PARENT, ""))
    if parent is not None:
        tags[_PARENT] = parent.id
    elif run.parent:
        report.omit(f"parent of run {run.id}", "it was not carried before its child; the tag has its id here")
    for noun, bad in (("param", bad_params), ("tag", bad_tags)):
        for key, reason in bad.items():
            report.omit(f"{noun} {key!r} of run {run.id}", reason)
    for noun, texts in (("params", params), ("tags", tags)):
        for some in _batches(list(texts.items()), _TEXTS):
            api.post(f"{V2}/runs/log-batch", {"run_id": id, noun: pairs(dict(some))})


def send_points(ws: Workspace, api: MlflowApi, run: Run, contents: RunContents, id: str, report: Report) -> None:
    """Send all points of all metrics, a thousand a request."""
    waiting: list[dict[str, Any]] = []
    for latest in contents.latest:
        reason = why_not(latest.key)
        if reason:
            report.omit(f"metric {latest.key!r} of run {run.id}", reason)
            continue
        for point in _points(ws, run.id, latest.key):
            waiting.append(point)
            if len(waiting) == _METRICS:
                api.post(f"{V2}/runs/log-batch", {"run_id": id, "metrics": waiting})
                report.count("points", len(waiting))
                waiting = []
    if waiting:
        api.post(f"{V2}/runs/log-batch", {"run_id": id, "metrics": waiting})
        report.count("points", len(waiting))


def _points(ws: Workspace, run: str, key: str) -> Iterator[dict[str, Any]]:
    after = ""
    while True:
        page = ws.runs.history(run, key, limit=_HISTORY, after=after)
        for step, at, value in zip(page.steps, page.times_us, page.values, strict=True):
            yield {"key": key, "value": value_text(value), "timestamp": at // 1000, "step": step}
        after = page.next
        if not after:
            return


def send_files(ws: Workspace, api: MlflowApi, owner: str, place: Place, report: Report) -> bool:
    """Send the files of a run or logged model that are not there in the same size; whether all are there now."""
    entries = list(_walk(ws, owner))
    if not entries:
        return True
    parsed = urlsplit(place.uri)
    if parsed.scheme != "mlflow-artifacts":
        reason = "the server keeps no files for its clients; start it without --no-serve-artifacts"
        report.omit(f"files of {owner}", reason, len(entries))
        return False
    root, whole = parsed.path.strip("/"), True
    there = {item.path: item.size_bytes for item in ProxiedFiles(api, root).walk()}
    for path, size in entries:
        if there.get(path) == size:
            report.already("files")
            continue
        try:
            _, stream = ws.artifacts.open(owner, path)
            with stream:
                api.send_file(f"{root}/{path}", stream, size)
        except Unavailable:
            raise
        except LoopwrightError as error:
            report.omit(f"file {path!r} of {owner}", error)
            whole = False
        else:
            report.count("files")
            report.bytes += size
    return whole


def _walk(ws: Workspace, owner: str) -> Iterator[tuple[str, int]]:
    waiting = [""]
    while waiting:
        for entry in ws.artifacts.list(owner, waiting.pop()):
            if entry.is_folder:
                waiting.append(entry.path)
            else:
                yield entry.path, entry.size_bytes


class LoggedTarget:
    """Where logged models of one experiment are made."""

    def __init__(self, api: MlflowApi, experiment_id: str, run: str) -> None:
        self._api, self._experiment, self._run = api, experiment_id, run

    def create(self, model: LoggedModel) -> Place:
        """Make it there, pending."""
        body = {
            "experiment_id": self._experiment,
            "name": model.name,
            "model_type": model.model_type,
            "source_run_id": self._run,
            "params": pairs(model.params),
            "tags": pairs({**carriable(model.tags, MAX_TAG)[0], MODEL_ID: model.id}),
        }
        kept = {key: value for key, value in body.items() if value}
        info = self._api.post(f"{V2}/logged-models", kept)["model"]["info"]
        return Place(info["model_id"], info["artifact_uri"])

    def finish(self, model: LoggedModel, place: Place, whole: bool) -> None:
        """Say that it is ready, or failed, as it is here; one whose files did not all arrive stays pending."""
        if model.status is LoggedStatus.PENDING or not whole:
            return
        status = "LOGGED_MODEL_READY" if model.status is LoggedStatus.READY else "LOGGED_MODEL_UPLOAD_FAILED"
        path = f"{V2}/logged-models/{place.id}"
        self._api.ask("PATCH", path, body={"model_id": place.id, "status": status})


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
