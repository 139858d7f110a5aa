"""An MLflow store that is a folder of files (`mlruns`), read without MLflow.

Each thing is a folder with a `meta.yaml`; params, tags and metrics are files named by their keys, a metric's points
are lines of `milliseconds value [step [dataset digest]]`. What MLflow still writes there while this reads may be seen
in part; an import that is repeated brings the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loopwright.connect.mlflow.files import open_files
from loopwright.connect.mlflow.mapping import time_of, value_of
from loopwright.connect.mlflow.model import (
    Files,
    SourceExperiment,
    SourceLogged,
    SourceModel,
    SourceRun,
    SourceVersion,
)
from loopwright.connect.mlflow.series import ODD, PIECE, Gathering
from loopwright.core import Invalid
from loopwright.track import Columns, DatasetUse, LoggedMetric, ModelUse

_PAGE = 200
_META = "meta.yaml"
_BATCH = 20_000
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_LOGGED_STATUS = {1: "PENDING", 2: "READY", 3: "FAILED"}
_VERSION = re.compile(r"version-(\d{1,9})")
_GONE = "Deleted_Internal"
_TAIL_BYTES = 4096
_Row = tuple[str, str, float, int, int, bool]
_DATASET = ("name", "digest", "source_type", "source", "schema", "profile")


class FolderSource:
    """The store in a folder."""

    def __init__(self, root: Path, artifacts: str = "") -> None:
        """Args:
            artifacts: where the files behind `mlflow-artifacts:` are.

        Raises:
            Invalid: the folder holds no MLflow store.
        """
        self.origin = f"mlflow file:{root.absolute().name}"
        self._root, self._artifacts, self._odd, self._bad = root, artifacts, 0, 0
        self._runs: dict[str, Path] = {}
        self._logged: dict[str, Path] = {}
        if not any(_things(root)):
            raise Invalid(f"{str(root)!r} holds no MLflow store", next_step="give the folder that holds 0/meta.yaml")

    def experiments(self) -> Sequence[SourceExperiment]:
        """All experiments, deleted ones too."""
        found = []
        for folder in self._experiment_folders():
            meta = _meta(folder)
            found.append(
                SourceExperiment(
                    id=folder.name,
                    name=str(meta.get("name") or folder.name),
                    artifact_location=_text(meta, "artifact_location"),
                    deleted=meta.get("lifecycle_stage") == "deleted" or folder.parent.name == ".trash",
                    created_ms=_number(meta, "creation_time"),
                    updated_ms=_number(meta, "last_update_time"),
                    tags=_texts(folder / "tags"),
                )
            )
        return found

    def runs(self, experiment_id: str) -> Iterator[list[SourceRun]]:
        """The runs of an experiment, by id, a page at a time."""
        folders = [
            folder
            for folder in _things(self._folder(experiment_id))
            if {"run_id", "run_uuid"} & _meta(folder).keys()  # beside runs there are datasets, models and traces
        ]
        for start in range(0, len(folders), _PAGE):
            yield [self._run(folder, experiment_id) for folder in folders[start : start + _PAGE]]

    def _run(self, folder: Path, experiment_id: str) -> SourceRun:
        meta, tags = _meta(folder), _texts(folder / "tags")
        id = str(meta.get("run_id") or meta.get("run_uuid"))
        self._runs[id] = folder
        metrics = dict(_files(folder / "metrics"))
        return SourceRun(
            id=id,
            experiment_id=experiment_id,
            name=_text(meta, "run_name") or _text(meta, "name") or tags.get("mlflow.runName", ""),
            status=_STATUS.get(_number(meta, "status"), ""),
            start_ms=_number(meta, "start_time"),
            end_ms=_number(meta, "end_time"),
            deleted=meta.get("lifecycle_stage") == "deleted",
            deleted_ms=_number(meta, "deleted_time"),
            user=_text(meta, "user_id"),
            artifact_uri=_text(meta, "artifact_uri"),
            params=_texts(folder / "params"),
            tags=tags,
            datasets=self._datasets(folder),
            models_read=_models(folder / "inputs", "source", "MODEL"),
            models_made=_models(folder / "outputs", "destination", "MODEL_OUTPUT"),
            latest=[(key, *_last_point(file)) for key, file in metrics.items()],
            points=sum(_lines_in(file) for file in metrics.values()),
        )

    def _datasets(self, run: Path) -> list[DatasetUse]:
        found = []
        for folder in _things(run / "inputs"):
            meta = _meta(folder)
            if meta.get("source_type") != "DATASET":
                continue
            about = _meta(run.parent / "datasets" / str(meta.get("source_id")))
            texts = {name: _text(about, name) for name in _DATASET}
            tags = {str(key): str(value) for key, value in (meta.get("tags") or {}).items()}
            found.append(DatasetUse(**texts, tags=tags))
        return sorted(found, key=lambda use: (use.name, use.digest))

    def points(self, runs: Sequence[SourceRun]) -> Iterator[Mapping[tuple[str, str], Columns]]:
        """All points of these runs, in pieces."""
        gathering = Gathering()
        for run in runs:
            for key, file in _files(self._runs[run.id] / "metrics"):
                for rows in self._points(run.id, key, file):
                    gathering.add_rows(rows)
                    if gathering.count >= PIECE:
                        yield gathering.take()
        if gathering.count:
            yield gathering.take()
        self._odd += gathering.odd

    def _points(self, run: str, key: str, file: Path) -> Iterator[list[_Row]]:
        rows: list[_Row] = []
        for words in _lines(file):
            point = _point(words)
            if point is None:
                self._bad += 1
                continue
            value, step, millis = point
            rows.append((run, key, value, millis, step, value != value))
            if len(rows) >= _BATCH:
                yield rows
                rows = []
        yield rows

    def logged_models(self, experiment_id: str) -> Iterator[SourceLogged]:
        """The logged models of an experiment that are not deleted."""
        for folder in _things(self._folder(experiment_id) / "models"):
            meta = _meta(folder)
            if meta.get("lifecycle_stage") == "deleted":
                continue
            self._logged[folder.name] = folder
            metrics = [_model_point(key, line) for key, file in _files(folder / "metrics") for line in _lines(file)]
            yield SourceLogged(
                id=folder.name,
                experiment_id=experiment_id,
                name=_text(meta, "name"),
                model_type=_text(meta, "model_type"),
                source_run=_text(meta, "source_run_id"),
                status=_LOGGED_STATUS.get(_number(meta, "status"), "PENDING"),
                status_message=_text(meta, "status_message"),
                created_ms=_number(meta, "creation_timestamp"),
                updated_ms=_number(meta, "last_updated_timestamp"),
                artifact_uri=_text(meta, "artifact_location"),
                params=_texts(folder / "params"),
                tags=_texts(folder / "tags"),
                metrics=[point for point in metrics if point is not None],
            )

    def models(self) -> Iterator[SourceModel]:
        """All registered models, by name."""
        for folder in _things(self._root / "models"):
            meta = _meta(folder)
            versions = [_version(item) for item in _things(folder) if _VERSION.fullmatch(item.name)]
            yield SourceModel(
                name=str(meta.get("name") or folder.name),
                description=_text(meta, "description"),
                created_ms=_number(meta, "creation_timestamp"),
                updated_ms=_number(meta, "last_updated_timestamp"),
                tags=_texts(folder / "tags"),
                aliases={alias: int(number) for alias, number in _texts(folder / "aliases").items()},
                versions=sorted((item for item in versions if item.stage != _GONE), key=lambda item: item.version),
            )

    def files(self, owner: str, uri: str) -> Files:
        """The files below an artifact location; those beside what they belong to, where the store was moved."""
        kind, _, id = owner.partition(":")
        held = (self._runs if kind == "run" else self._logged).get(id)
        beside = held / "artifacts" if held is not None else None
        if beside is not None and beside.is_dir() and not _is_there(uri):
            return open_files(beside.absolute().as_uri())
        return open_files(uri, self._artifacts, self._root.parent)

    def left_behind(self) -> dict[str, int]:
        """What the store holds that no import carries."""
        traces = sum(1 for folder in self._experiment_folders() for _ in _things(folder / "traces"))
        found = {"traces": traces, ODD: self._odd, "lines that are no points": self._bad}
        return {word: count for word, count in found.items() if count}

    def close(self) -> None:
        """Nothing is held."""

    def _experiment_folders(self) -> list[Path]:
        return [*_things(self._root), *_things(self._root / ".trash")]

    def _folder(self, experiment_id: str) -> Path:
        folder = self._root / experiment_id
        return folder if folder.is_dir() else self._root / ".trash" / experiment_id


def _things(folder: Path) -> Iterator[Path]:
    """The folders in a folder that hold a thing each, by name."""
    if folder.is_dir():
        yield from (item for item in sorted(folder.iterdir()) if (item / _META).is_file())


def _meta(folder: Path) -> dict[str, Any]:
    import yaml

    file = folder / _META
    if not file.is_file():
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{file} cannot be read: {error}", next_step="mend the file, or move its folder away") from None
    return found if isinstance(found, dict) else {}


def _text(meta: Mapping[str, Any], name: str) -> str:
    value = meta.get(name)
    return "" if value is None else str(value)


def _number(meta: Mapping[str, Any], name: str) -> int:
    value = meta.get(name)
    return value if isinstance(value, int) else 0


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files below a folder by key: a key with slashes is a path. Links may lead out of the store: they are left."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(place, name)
            if not file.is_symlink():
                yield file.relative_to(folder).as_posix(), file


def _texts(folder: Path) -> dict[str, str]:
    return {key: file.read_bytes().decode("utf-8", "replace") for key, file in _files(folder)}


def _lines(file: Path) -> Iterator[list[str]]:
    """The words of each whole line."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.endswith("\n") and line.strip():
                yield line.split()


def _lines_in(file: Path) -> int:
    with file.open("rb") as stream:
        return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(1 << 20), b""))


def _point(words: Sequence[str]) -> tuple[float, int, int] | None:
    """Value, step and milliseconds of a line; None for one that is none."""
    try:
        return value_of(float(words[1])), int(words[2]) if len(words) > 2 else 0, int(words[0])
    except (IndexError, ValueError):
        return None


def _last_point(file: Path) -> tuple[float, int, int]:
    with file.open("rb") as stream:
        stream.seek(max(file.stat().st_size - _TAIL_BYTES, 0))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return _point(lines[-1].split() if lines else []) or (0.0, 0, 0)


def _model_point(key: str, words: Sequence[str]) -> LoggedMetric | None:
    """A metric of a logged model: `milliseconds value step run [dataset digest]`."""
    point = _point(words)
    if point is None or len(words) < 4:
        return None
    value, step, millis = point
    return LoggedMetric(key, value, step, time_of(millis), words[3], *words[4:6])


def _models(folder: Path, end: str, kind: str) -> list[ModelUse]:
    """The logged models that stand at one end of the links in a folder."""
    found = (_meta(item) for item in _things(folder))
    mine = (meta for meta in found if meta.get(f"{end}_type") == kind)
    uses = (ModelUse(_text(meta, f"{end}_id"), _number(meta, "step")) for meta in mine)
    return sorted(uses, key=lambda use: use.model)


def _version(folder: Path) -> SourceVersion:
    meta = _meta(folder)
    return SourceVersion(
        version=_number(meta, "version"),
        source=_text(meta, "source"),
        run_id=_text(meta, "run_id"),
        run_link=_text(meta, "run_link"),
        model_id=_text(meta, "model_id"),
        user=_text(meta, "user_id"),
        description=_text(meta, "description"),
        stage=_text(meta, "current_stage") or "None",
        created_ms=_number(meta, "creation_timestamp"),
        updated_ms=_number(meta, "last_updated_timestamp"),
        tags=_texts(folder / "tags"),
    )


def _is_there(uri: str) -> bool:
    """Whether a location is no folder of this machine, or one that exists."""
    path = uri.removeprefix("file://")
    return "://" in path or path.startswith("mlflow-artifacts:") or Path(path).is_dir()
