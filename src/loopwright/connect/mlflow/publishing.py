"""Carrying registered models into an MLflow server: names, versions under their numbers, stages, aliases.

MLflow numbers versions by itself. Where a number was deleted here, a version is made there and deleted at once, so that
the next one has its number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from loopwright.connect.mlflow.api import V2, MlflowApi
from loopwright.connect.mlflow.mapping import copied_ref
from loopwright.connect.mlflow.model import Report
from loopwright.connect.mlflow.outgoing import VERSION, carriable, pairs
from loopwright.connect.mlflow.sending import Place
from loopwright.core import LoopwrightError, NotFound, Unavailable, parse_ref
from loopwright.models import Kind, Model, ModelVersion, Stage
from loopwright.workspace import Workspace

_TAG_LIMIT = 100_000
_OF_RUN = re.compile(r"(?:^|/)([0-9a-f]{32})(?:/artifacts)?/(.+)")
_FOLDER = "loopwright-models"


def export_models(
    ws: Workspace,
    api: MlflowApi,
    report: Report,
    runs: Mapping[str, Place],
    logged: Mapping[str, Place],
    *,
    only_carried: bool,
) -> None:
    """Carry all registered models; with `only_carried`, those of which a version was made by a run that was."""
    after = ""
    while True:
        page = ws.models.search(limit=100, after=after)
        for model in page.models:
            versions = sorted(ws.models.versions(model.name, limit=1000), key=lambda item: item.version)
            if only_carried and not any(item.run in runs for item in versions):
                continue
            try:
                _Publisher(ws, api, report, runs, logged).publish(model, versions)
            except Unavailable:
                raise
            except LoopwrightError as error:
                report.omit(f"model {model.name!r}", error)
        after = page.next
        if not after:
            return


class _Publisher:
    """One registered name on its way."""

    def __init__(
        self,
        ws: Workspace,
        api: MlflowApi,
        report: Report,
        runs: Mapping[str, Place],
        logged: Mapping[str, Place],
    ) -> None:
        self._ws, self._api, self._report = ws, api, report
        self._runs, self._logged = runs, logged

    def publish(self, model: Model, versions: list[ModelVersion]) -> None:
        """Carry a name with its versions.

        Raises:
            NotFound, Invalid, Conflict, Unavailable: as the server says.
        """
        there = self._there(model.name)
        if there is not None and not any(tag["key"] == VERSION for tag in there.get("tags", [])):
            self._report.omit(
                f"model {model.name!r}", "a model of that name is there that no export brought; it is untouched"
            )
            return
        latest = self._latest(model.name) if there else 0
        fresh = [item for item in versions if item.version > latest]
        self._report.already("versions", len(versions) - len(fresh))
        if self._report.dry_run:
            self._report.count("models", 0 if there else 1)
            self._report.count("versions", len(fresh))
            return
        if there is None:
            self._create(model)
        for item in fresh:
            latest = self._version(item, latest)
        for alias, number in sorted(model.aliases.items()):
            body = {"name": model.name, "alias": alias, "version": str(number)}
            self._api.post(f"{V2}/registered-models/alias", body)

    def _there(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._api.get(f"{V2}/registered-models/get", name=name)["registered_model"]
        except NotFound:
            return None
        return found

    def _latest(self, name: str) -> int:
        quoted = f'"{name}"' if "'" in name else f"'{name}'"
        asked = {"filter": f"name={quoted}", "max_results": 1, "order_by": "version_number DESC"}
        found = self._api.get(f"{V2}/model-versions/search", **asked).get("model_versions", [])
        return int(found[0]["version"]) if found else 0

    def _create(self, model: Model) -> None:
        tags, bad = carriable(model.tags, 5000)
        for key, reason in bad.items():
            self._report.omit(f"tag {key!r} of model {model.name!r}", reason)
        body = {"name": model.name, "description": model.description, "tags": pairs({**tags, VERSION: "1"})}
        self._api.post(f"{V2}/registered-models/create", body)
        self._report.count("models")

    def _version(self, item: ModelVersion, latest: int) -> int:
        """Make one version; the number that it has there."""
        source = self._source(item)
        if source is None:
            return latest
        for _ in range(latest + 1, item.version):
            number = self._make(item, source, {})
            self._api.ask("DELETE", f"{V2}/model-versions/delete", body={"name": item.name, "version": str(number)})
        tags, bad = carriable(item.tags, _TAG_LIMIT)
        for key, reason in bad.items():
            self._report.omit(f"tag {key!r} of {item.ref}", reason)
        number = self._make(item, source, tags)
        if item.stage is not Stage.NONE:
            body = {"name": item.name, "version": str(number), "stage": str(item.stage)}
            self._api.post(f"{V2}/model-versions/transition-stage", {**body, "archive_existing_versions": False})
        self._report.count("versions")
        return number

    def _make(self, item: ModelVersion, source: dict[str, str], tags: Mapping[str, str]) -> int:
        body = {
            "name": item.name,
            "description": item.description,
            "tags": pairs({**tags, VERSION: item.ref}),
            **source,
        }
        return int(self._api.post(f"{V2}/model-versions/create", body)["model_version"]["version"])

    def _source(self, item: ModelVersion) -> dict[str, str] | None:
        """Where a version's files are there; they are sent if they are nowhere yet. None if they cannot be."""
        model, run = self._logged.get(item.model_id), self._runs.get(item.run)
        if model is not None:
            return {"source": f"models:/{model.id}", "model_id": model.id, **({"run_id": run.id} if run else {})}
        if item.kind is Kind.ELSEWHERE or self._is_copy_there(item.source):
            return {"source": item.source, **({"run_id": run.id} if run else {})}
        if run is None:
            self._report.omit(item.ref, "MLflow keeps a version's files with a run, and it has none that was carried")
            return None
        return {"source": f"{run.uri}/{self._folder(item, run)}", "run_id": run.id}

    def _is_copy_there(self, source: str) -> bool:
        """Whether a version is a copy of one that is there under the same name and number."""
        ref = copied_ref(source)
        if not ref:
            return False
        named = parse_ref(ref, "model")
        try:
            self._api.get(f"{V2}/model-versions/get", name=named.name, version=str(named.version))
        except LoopwrightError:
            return False
        return True

    def _folder(self, item: ModelVersion, run: Place) -> str:
        found = _OF_RUN.search(item.source.removeprefix("runs:"))
        if found is not None and found[1] == item.run:
            try:
                if self._ws.artifacts.tree(f"run:{item.run}", found[2])[0] == item.bundle:
                    return found[2]
            except LoopwrightError:
                pass  # its folder has another name there than its source says: the files are sent beside the run's
        return self._send(item, run)

    def _send(self, item: ModelVersion, run: Place) -> str:
        folder = f"{_FOLDER}/{item.name}/{item.version}"
        root = urlsplit(run.uri).path.strip("/")
        waiting = [""]
        while waiting:
            for entry in self._ws.models.files(item.bundle, waiting.pop()):
                if entry.is_folder:
                    waiting.append(entry.path)
                    continue
                held, stream = self._ws.models.open_file(item.bundle, entry.path)
                with stream:
                    self._api.send_file(f"{root}/{folder}/{entry.path}", stream, held.size_bytes)
                self._report.count("files")
                self._report.bytes += held.size_bytes
        return folder
