"""An MLflow store read through its server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote, urlsplit

from loopwright.connect.mlflow.api import PROXY, V2, MlflowApi
from loopwright.connect.mlflow.mapping import time_of, value_of
from loopwright.connect.mlflow.model import (
    FileEntry,
    Files,
    SourceExperiment,
    SourceLogged,
    SourceModel,
    SourceRun,
    SourceVersion,
)
from loopwright.connect.mlflow.series import ODD, PIECE, Gathering
from loopwright.core import NotFound
from loopwright.store import Readable
from loopwright.track import Columns, DatasetUse, LoggedMetric, ModelUse

_PAGE = 100
_HISTORY_PAGE = 25_000
_PROMPTS = ("", "tags.`mlflow.prompt.is_prompt` = 'true'")
_PROXIED = "mlflow-artifacts"


class RestSource:
    """The store behind a server's address."""

    def __init__(self, api: MlflowApi) -> None:
        self.origin = f"mlflow {api.shown}"
        self._api, self._odd = api, 0

    def experiments(self) -> Sequence[SourceExperiment]:
        """All experiments, deleted ones too."""
        asked = {"max_results": 1000, "view_type": "ALL", "order_by": ["creation_time ASC"]}
        return [
            SourceExperiment(
                id=item["experiment_id"],
                name=item["name"],
                artifact_location=item.get("artifact_location", ""),
                deleted=item.get("lifecycle_stage") == "deleted",
                created_ms=int(item.get("creation_time") or 0),
                updated_ms=int(item.get("last_update_time") or 0),
                tags=_texts(item.get("tags")),
            )
            for page in self._pages(f"{V2}/experiments/search", asked)
            for item in page.get("experiments", [])
        ]

    def runs(self, experiment_id: str) -> Iterator[list[SourceRun]]:
        """The runs of an experiment, oldest first, so that those that begin meanwhile come last."""
        asked = {
            "experiment_ids": [experiment_id],
            "max_results": _PAGE,
            "run_view_type": "ALL",
            "order_by": ["attributes.start_time ASC"],
        }
        for page in self._pages(f"{V2}/runs/search", asked):
            yield [run_of(item) for item in page.get("runs", [])]

    def points(self, runs: Sequence[SourceRun]) -> Iterator[Mapping[tuple[str, str], Columns]]:
        """All points of these runs, in pieces."""
        gathering = Gathering()
        for run in runs:
            for key, *_ in run.latest:
                for points in self._history(run.id, key):
                    gathering.add(run.id, key, points)
                    if gathering.count >= PIECE:
                        yield gathering.take()
        if gathering.count:
            yield gathering.take()
        self._odd += gathering.odd

    def _history(self, run: str, key: str) -> Iterator[list[tuple[float, int, int]]]:
        token = ""
        while True:
            asked = {"run_id": run, "metric_key": key, "max_results": _HISTORY_PAGE, "page_token": token}
            page = self._api.get(f"{V2}/metrics/get-history", **asked)
            yield [
                (value_of(item["value"]), int(item.get("timestamp") or 0), int(item.get("step") or 0))
                for item in page.get("metrics", [])
            ]
            token = page.get("next_page_token", "")
            if not token:
                return

    def logged_models(self, experiment_id: str) -> Iterator[SourceLogged]:
        """The logged models of an experiment; none of a server before MLflow 3."""
        asked = {"experiment_ids": [experiment_id], "max_results": 50}
        try:
            for page in self._pages(f"{V2}/logged-models/search", asked):
                yield from (logged_of(item) for item in page.get("models", []))
        except NotFound:
            return

    def models(self) -> Iterator[SourceModel]:
        """All registered models, prompts too."""
        for filter in _PROMPTS:
            asked = {"max_results": 100, "filter": filter}
            for page in self._get_pages(f"{V2}/registered-models/search", asked):
                for item in page.get("registered_models", []):
                    yield self._model(item)

    def _model(self, item: Mapping[str, Any]) -> SourceModel:
        return SourceModel(
            name=item["name"],
            description=item.get("description", ""),
            created_ms=int(item.get("creation_timestamp") or 0),
            updated_ms=int(item.get("last_updated_timestamp") or 0),
            tags=_texts(item.get("tags")),
            aliases={alias["alias"]: int(alias["version"]) for alias in item.get("aliases", [])},
            versions=self._versions(item["name"]),
        )

    def _versions(self, name: str) -> list[SourceVersion]:
        quoted = f'"{name}"' if "'" in name else f"'{name}'"
        found: dict[int, SourceVersion] = {}
        for more in ("", " AND tags.`mlflow.prompt.is_prompt` = 'true'"):
            asked = {"filter": f"name={quoted}{more}", "max_results": 1000}
            for page in self._get_pages(f"{V2}/model-versions/search", asked):
                for item in page.get("model_versions", []):
                    found[int(item["version"])] = version_of(item)
        return [found[number] for number in sorted(found)]

    def files(self, owner: str, uri: str) -> Files:
        """The files of a run or logged model, through the server."""
        kind, _, id = owner.partition(":")
        if urlsplit(uri).scheme == _PROXIED:
            return ProxiedFiles(self._api, urlsplit(uri).path.strip("/"))
        return ServedFiles(self._api, kind, id)

    def left_behind(self) -> dict[str, int]:
        """Times of points that cannot be kept. Of traces the server would only tell one by one."""
        return {ODD: self._odd} if self._odd else {}

    def close(self) -> None:
        """Close the connection."""
        self._api.close()

    def _pages(self, path: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = self._api.post(path, {**asked, "page_token": token} if token else asked)
            yield page
            token = page.get("next_page_token", "")
            if not token:
                return

    def _get_pages(self, path: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = self._api.get(path, **asked, page_token=token)
            yield page
            token = page.get("next_page_token", "")
            if not token:
                return


class ProxiedFiles:
    """Files that the server keeps for its clients (`mlflow-artifacts:`)."""

    def __init__(self, api: MlflowApi, root: str) -> None:
        self._api, self._root = api, root

    def walk(self) -> Iterator[FileEntry]:
        """All files, folder by folder."""
        yield from _walk(self._list)

    def _list(self, folder: str) -> list[dict[str, Any]]:
        where = f"{self._root}/{folder}".rstrip("/")
        prefix = f"{folder}/" if folder else ""
        found = self._api.get(PROXY, path=where).get("files", [])
        return [{**item, "path": prefix + item["path"].rpartition("/")[2]} for item in found]

    def open(self, path: str) -> AbstractContextManager[Readable]:
        """One file as a stream."""
        return self._api.file(f"{PROXY}/{quote(f'{self._root}/{path}')}")


class ServedFiles:
    """Files of a run or logged model that the server reads from its own storage for us."""

    def __init__(self, api: MlflowApi, kind: str, id: str) -> None:
        self._api, self._kind, self._id = api, kind, id

    def walk(self) -> Iterator[FileEntry]:
        """All files, folder by folder."""
        yield from _walk(self._list)

    def _list(self, folder: str) -> list[dict[str, Any]]:
        if self._kind == "run":
            found = self._api.get(f"{V2}/artifacts/list", run_id=self._id, path=folder)
        else:
            place = f"{V2}/logged-models/{self._id}/artifacts/directories"
            found = self._api.get(place, artifact_directory_path=folder)
        listed: list[dict[str, Any]] = found.get("files", [])
        return listed

    def open(self, path: str) -> AbstractContextManager[Readable]:
        """One file as a stream."""
        if self._kind == "run":
            return self._api.file("/get-artifact", run_id=self._id, path=path)
        return self._api.file(f"/ajax-api{V2[4:]}/logged-models/{self._id}/artifacts/files", artifact_file_path=path)


def _walk(listing: Any) -> Iterator[FileEntry]:
    waiting = [""]
    while waiting:
        for item in listing(waiting.pop()):
            if item.get("is_dir"):
                waiting.append(item["path"])
            else:
                yield FileEntry(item["path"], int(item.get("file_size") or 0))


def run_of(item: Mapping[str, Any]) -> SourceRun:
    """A run from the server's answer."""
    info, data = item["info"], item.get("data", {})
    inputs, outputs = item.get("inputs", {}), item.get("outputs", {})
    latest = [
        (one["key"], value_of(one["value"]), int(one.get("step") or 0), int(one.get("timestamp") or 0))
        for one in data.get("metrics", [])
    ]
    return SourceRun(
        id=info.get("run_id") or info["run_uuid"],
        experiment_id=info["experiment_id"],
        name=info.get("run_name", ""),
        status=info.get("status", ""),
        start_ms=int(info.get("start_time") or 0),
        end_ms=int(info.get("end_time") or 0),
        deleted=info.get("lifecycle_stage") == "deleted",
        user=info.get("user_id", ""),
        artifact_uri=info.get("artifact_uri", ""),
        params=_texts(data.get("params")),
        tags=_texts(data.get("tags")),
        datasets=sorted(map(_dataset, inputs.get("dataset_inputs", [])), key=lambda use: (use.name, use.digest)),
        models_read=[ModelUse(use["model_id"]) for use in inputs.get("model_inputs", [])],
        models_made=[ModelUse(use["model_id"], int(use.get("step") or 0)) for use in outputs.get("model_outputs", [])],
        latest=sorted(latest),
    )


def _dataset(item: Mapping[str, Any]) -> DatasetUse:
    about = item["dataset"]
    schema, profile = about.get("schema", ""), about.get("profile", "")
    source = (about.get("source_type", ""), about.get("source", ""))
    return DatasetUse(about["name"], about["digest"], *source, schema, profile, _texts(item.get("tags")))


def logged_of(item: Mapping[str, Any]) -> SourceLogged:
    """A logged model from the server's answer."""
    info, data = item["info"], item.get("data", {})
    return SourceLogged(
        id=info["model_id"],
        experiment_id=info["experiment_id"],
        name=info.get("name", ""),
        model_type=info.get("model_type", ""),
        source_run=info.get("source_run_id", ""),
        status=str(info.get("status", "READY")),
        status_message=info.get("status_message", ""),
        created_ms=int(info.get("creation_timestamp_ms") or 0),
        updated_ms=int(info.get("last_updated_timestamp_ms") or 0),
        artifact_uri=info.get("artifact_uri", ""),
        params=_texts(data.get("params")),
        tags=_texts(info.get("tags")),
        metrics=[
            LoggedMetric(
                one["key"],
                value_of(one["value"]),
                int(one.get("step") or 0),
                time_of(int(one.get("timestamp") or 0)),
                one.get("run_id", ""),
                one.get("dataset_name", ""),
                one.get("dataset_digest", ""),
            )
            for one in data.get("metrics", [])
        ],
    )


def version_of(item: Mapping[str, Any]) -> SourceVersion:
    """A version from the server's answer."""
    return SourceVersion(
        version=int(item["version"]),
        source=item.get("source", ""),
        run_id=item.get("run_id", ""),
        run_link=item.get("run_link", ""),
        model_id=item.get("model_id", ""),
        user=item.get("user_id", ""),
        description=item.get("description", ""),
        stage=item.get("current_stage", "None"),
        created_ms=int(item.get("creation_timestamp") or 0),
        updated_ms=int(item.get("last_updated_timestamp") or 0),
        tags=_texts(item.get("tags")),
    )


def _texts(pairs: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in sorted(pairs or [], key=lambda pair: pair["key"])}
