"""Carrying registered models: names, versions with their numbers, stages, aliases, and the files they consist of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from loopwright.connect.mlflow.mapping import copied_ref, files_of, storable, to_name, to_version
from loopwright.connect.mlflow.model import ORIGIN_TAG, Report, SourceModel, SourceRun, SourceVersion
from loopwright.core import LoopwrightError, parse_ref
from loopwright.models import AdoptedVersion, ModelAdoption
from loopwright.track import AdoptionService
from loopwright.workspace import Workspace

_TAG_LIMIT = 100_000


class Places:
    """Where the artifact locations of what was carried are: of the runs that versions name, and of logged models."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = wanted
        self.runs: dict[str, str] = {}
        self.models: dict[str, str] = {}

    def note_runs(self, runs: Iterable[SourceRun]) -> None:
        """Remember where the files of runs are, if a version may ask."""
        self.runs.update({run.id: run.artifact_uri for run in runs if run.id in self._wanted})


def import_models(
    ws: Workspace, models: Sequence[SourceModel], report: Report, places: Places, *, only_carried: bool
) -> None:
    """Carry registered models; with `only_carried`, those of which a version was made by what was carried."""
    versions = {(model.name, version.version): version for model in models for version in model.versions}
    for model in models:
        if only_carried and not any(_is_of(original(item, versions), places) for item in model.versions):
            continue
        if report.dry_run:
            report.count("models")
            report.count("versions", len(model.versions))
            continue
        try:
            _import_model(ws, model, report, places, versions)
        except LoopwrightError as error:
            report.omit(f"model {model.name!r}", error)


def original(version: SourceVersion, versions: Mapping[tuple[str, int], SourceVersion]) -> SourceVersion:
    """The version that this one is a copy of, of a copy in turn of what that was copied from; else itself."""
    for _ in range(len(versions)):
        ref = copied_ref(version.source)
        if not ref:
            break
        named = parse_ref(ref, "model")
        found = versions.get((named.name, named.version or 0))
        if found is None:
            break
        version = found
    return version


def _is_of(version: SourceVersion, places: Places) -> bool:
    owner, _ = files_of(version, "", {})
    return version.run_id in places.runs or owner.partition(":")[2] in places.models


def _import_model(
    ws: Workspace,
    model: SourceModel,
    report: Report,
    places: Places,
    all_versions: Mapping[tuple[str, int], SourceVersion],
) -> None:
    adoption = ModelAdoption(ws.stores, ws.scope)
    tags, bad = storable(model.tags, _TAG_LIMIT)
    for key, reason in bad.items():
        report.omit(f"tag {key!r} of model {model.name!r}", reason)
    versions = [_version(ws, model.name, item, report, places, all_versions) for item in model.versions]
    clash = adoption.clash(model.name, versions, ORIGIN_TAG)
    if clash:
        report.omit(f"model {model.name!r}", f"{clash}; it is untouched (--project NAME imports into another project)")
        return
    made, refused = adoption.adopt(to_name(msgspec.structs.replace(model, tags=tags), report.source), versions)
    for what, error in refused.items():
        report.omit(f"{'alias ' if what[0] == '@' else 'version '}{what} of model {model.name!r}", error)
    report.already("versions", len(versions) - made)
    if not made:
        report.already("models")
        return
    report.count("models")
    report.count("versions", made)
    evidence = {"source": report.source, "versions": made, "aliases": dict(model.aliases)}
    AdoptionService(ws.stores, ws.scope).tell("mlflow.imported", f"model:{model.name}", evidence)


def _version(
    ws: Workspace,
    name: str,
    item: SourceVersion,
    report: Report,
    places: Places,
    all_versions: Mapping[tuple[str, int], SourceVersion],
) -> AdoptedVersion:
    tags, bad = storable(item.tags, _TAG_LIMIT)
    for key, reason in bad.items():
        report.omit(f"tag {key!r} of {name!r} version {item.version}", reason)
    made = original(item, all_versions)
    owner, folder = files_of(made, places.runs.get(made.run_id, ""), places.models)
    if owner and not _has_files(ws, owner, folder):
        report.omit(f"files of {name!r} version {item.version}", "they were not carried, or are not there")
        owner = folder = ""
    elif not owner:
        report.omit(f"files of {name!r} version {item.version}", "they are not among those of a run or logged model")
    return to_version(msgspec.structs.replace(item, tags=tags), owner, folder)


def _has_files(ws: Workspace, owner: str, folder: str) -> bool:
    try:
        return bool(ws.artifacts.tree(owner, folder)[0])
    except LoopwrightError:
        return False
