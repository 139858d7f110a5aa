"""What an MLflow store holds, as it says it, whichever door it was read through; and what came of carrying it over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from loopwright.store import Readable
from loopwright.track import Columns, DatasetUse, LoggedMetric, ModelUse

ORIGIN_TAG = "loopwright.imported_from"
STATE_TAG = "loopwright.import_state"


class SourceExperiment(msgspec.Struct, frozen=True):
    """Times in Unix milliseconds; 0 where there is none."""

    id: str
    name: str
    artifact_location: str = ""
    deleted: bool = False
    created_ms: int = 0
    updated_ms: int = 0
    tags: dict[str, str] = {}


class SourceRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run but for its points. `latest` has (key, value, step, milliseconds) of each metric; `points` is how many
    points it has, None where only reading them tells."""

    id: str
    experiment_id: str
    name: str = ""
    status: str = ""
    start_ms: int = 0
    end_ms: int = 0
    deleted: bool = False
    deleted_ms: int = 0
    user: str = ""
    artifact_uri: str = ""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    datasets: list[DatasetUse] = []
    models_read: list[ModelUse] = []
    models_made: list[ModelUse] = []
    latest: list[tuple[str, float, int, int]] = []
    points: int | None = None


class SourceLogged(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model of MLflow 3, but for its files."""

    id: str
    experiment_id: str
    name: str
    model_type: str = ""
    source_run: str = ""
    status: str = "READY"
    status_message: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    artifact_uri: str = ""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: list[LoggedMetric] = []


class SourceVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a registered model."""

    version: int
    source: str = ""
    run_id: str = ""
    run_link: str = ""
    model_id: str = ""
    user: str = ""
    description: str = ""
    stage: str = "None"
    created_ms: int = 0
    updated_ms: int = 0
    tags: dict[str, str] = {}


class SourceModel(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model with its versions, lowest number first."""

    name: str
    description: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    versions: list[SourceVersion] = []


class FileEntry(msgspec.Struct, frozen=True):
    """A file below an artifact location; `modified_ms` is 0 where the store does not say."""

    path: str
    size_bytes: int
    modified_ms: int = 0


class Files(Protocol):
    """The files below one artifact location, wherever that is."""

    def walk(self) -> Iterator[FileEntry]:
        """All files; none where the location is not there.

        Raises:
            Unavailable: the place does not answer.
        """
        ...

    def open(self, path: str) -> AbstractContextManager[Readable]:
        """One file as a stream.

        Raises:
            NotFound: there is none at that path.
            Unavailable: the place does not answer.
        """
        ...


class Source(Protocol):
    """An MLflow store that can be read. Nothing in it is changed. Used by one thread."""

    origin: str
    """What imported things say of where they came from; holds no credentials and no folder of this machine."""

    def experiments(self) -> Sequence[SourceExperiment]:
        """All experiments, deleted ones too."""
        ...

    def runs(self, experiment_id: str) -> Iterator[list[SourceRun]]:
        """The runs of an experiment, deleted ones too, a page at a time."""
        ...

    def points(self, runs: Sequence[SourceRun]) -> Iterator[Mapping[tuple[str, str], Columns]]:
        """All points of these runs by run id and key, in pieces of a bounded size."""
        ...

    def logged_models(self, experiment_id: str) -> Iterator[SourceLogged]:
        """The logged models of an experiment."""
        ...

    def models(self) -> Iterator[SourceModel]:
        """All registered models."""
        ...

    def files(self, owner: str, uri: str) -> Files:
        """The files of `run:<id>` or `model:<id>`, whose location the store gives as `uri`.

        Raises:
            Unavailable: that place cannot be reached from here.
        """
        ...

    def left_behind(self) -> dict[str, int]:
        """What the store holds that no import carries: kind and number."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Plan(msgspec.Struct, frozen=True):
    """What to carry over: experiments of these names (all, with none), with or without files and registered models."""

    experiments: tuple[str, ...] = ()
    files: bool = True
    models: bool = True
    dry_run: bool = False


class Omitted(msgspec.Struct, frozen=True):
    """Something that was not carried over, and why; `count` where it stands for several."""

    what: str
    reason: str
    count: int = 1


class Report(msgspec.Struct, kw_only=True):
    """What came of an import or export. `counts` says how many of each kind were new or changed, `there` how many
    were there already, `bytes` the size of the files that were carried."""

    source: str
    dry_run: bool = False
    counts: dict[str, int] = {}
    there: dict[str, int] = {}
    bytes: int = 0
    seconds: float = 0.0
    notes: list[str] = []
    omitted: list[Omitted] = []

    def count(self, kind: str, many: int = 1) -> None:
        """Something new or changed was carried."""
        self.counts[kind] = self.counts.get(kind, 0) + many

    def already(self, kind: str, many: int = 1) -> None:
        """Something was there already."""
        self.there[kind] = self.there.get(kind, 0) + many

    def omit(self, what: str, reason: object, count: int = 1) -> None:
        """Something was left out."""
        self.omitted.append(Omitted(what, str(reason).partition("\n")[0], count))

    def folded(self, limit: int = 20) -> list[Omitted]:
        """What was left out, with those of one reason folded into one line, at most `limit` lines."""
        many: Counter[str] = Counter()
        first: dict[str, str] = {}
        for item in self.omitted:
            many[item.reason] += item.count
            first.setdefault(item.reason, item.what)
        return [Omitted(first[reason], reason, count) for reason, count in many.most_common(limit)]
