"""Carrying an MLflow store over into a project.

It goes experiment by experiment, a page of runs at a time. A run is marked as in whole (`loopwright.import_state`)
after its params, tags, points and files are there, so an import that broke off goes on with the next run, and a second
one carries only runs that have changed since. Everything is stored by its identity (a run's id, a point's place and
value, a file's path), so that doing a part again changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec

from loopwright.connect.mlflow.filing import carry_files, count_files
from loopwright.connect.mlflow.mapping import (
    our_name,
    printable,
    state_of,
    storable,
    time_of,
    to_experiment,
    to_logged,
    to_run,
)
from loopwright.connect.mlflow.model import (
    ORIGIN_TAG,
    STATE_TAG,
    Plan,
    Report,
    Source,
    SourceExperiment,
    SourceLogged,
    SourceRun,
)
from loopwright.connect.mlflow.registering import Places, import_models
from loopwright.core import LoopwrightError, NotFound, Task, progress
from loopwright.track import AdoptionService
from loopwright.workspace import Workspace

_POINTS_AT_ONCE = 500_000


def import_mlflow(ws: Workspace, source: Source, plan: Plan) -> Report:
    """Carry a store over, or with `dry_run`, count what that would carry.

    Raises:
        NotFound: there is no experiment of a name that was asked for.
        Unavailable: the source does not answer.
    """
    began = time.monotonic()
    report = Report(source=source.origin, dry_run=plan.dry_run)
    chosen = choose(source.experiments(), plan.experiments)
    registered = list(source.models()) if plan.models else []
    places = Places({version.run_id for model in registered for version in model.versions})
    with progress("runs") as task:
        for experiment in chosen:
            _Importer(ws, source, plan, report, places, task).experiment(experiment)
    import_models(ws, registered, report, places, only_carried=bool(plan.experiments))
    for what, count in source.left_behind().items():
        report.omit(what, "an import carries no such thing", count)
    report.seconds = round(time.monotonic() - began, 3)
    return report


def choose(experiments: Sequence[SourceExperiment], names: Sequence[str]) -> list[SourceExperiment]:
    """The experiments of these names or ids, or all.

    Raises:
        NotFound: there is none of a name.
    """
    known = {item.name: item for item in experiments} | {item.id: item for item in experiments}
    missing = [name for name in names if name not in known]
    if missing:
        shown = ", ".join(repr(item.name) for item in experiments[:20])
        raise NotFound(f"the source has no experiment {missing[0]!r}", next_step=f"it has {shown}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(experiments)


class _Importer:
    """One experiment on its way."""

    def __init__(
        self,
        ws: Workspace,
        source: Source,
        plan: Plan,
        report: Report,
        places: Places,
        task: Task,
    ) -> None:
        self._ws, self._source, self._plan, self._report = ws, source, plan, report
        self._places, self._task = places, task
        self._adoption = AdoptionService(ws.stores, ws.scope)

    def experiment(self, source: SourceExperiment) -> None:
        """Carry one experiment with its runs and logged models."""
        id = "" if self._plan.dry_run else self._ensure(source)
        if id is None:
            return
        before = dict(self._report.counts)
        for page in self._source.runs(source.id):
            self._page(page, id)
        for model in self._source.logged_models(source.id):
            self._logged(model, id)
        carried = {kind: many - before.get(kind, 0) for kind, many in self._report.counts.items()}
        if self._plan.dry_run:
            self._report.count("experiments")
            return
        if any(carried.values()):
            evidence = {"source": self._report.source, "experiment": source.name, **carried}
            self._adoption.tell("mlflow.imported", f"experiment:{id}", evidence)
        self._delete_experiment(source, id)

    def _ensure(self, source: SourceExperiment) -> str | None:
        tags, bad = storable(source.tags)
        for key, reason in bad.items():
            self._report.omit(f"tag {key!r} of experiment {source.name!r}", reason)
        there = self._ws.experiments.find(our_name(source.name)) is not None
        try:
            made = self._adoption.experiment(
                to_experiment(msgspec.structs.replace(source, tags=tags), self._report.source)
            )
        except LoopwrightError as error:
            self._report.omit(f"experiment {source.name!r}", error)
            return None
        if there:
            self._report.already("experiments")
        else:
            self._report.count("experiments")
        return made.id

    def _delete_experiment(self, source: SourceExperiment, id: str) -> None:
        if source.deleted and self._report.source in self._ws.experiments.get(id).tags.get(ORIGIN_TAG, ""):
            self._ws.experiments.delete(id)

    def _page(self, page: Sequence[SourceRun], experiment_id: str) -> None:
        self._places.note_runs(page)
        fresh = list(self._fresh(page))
        if self._plan.dry_run:
            self._count(fresh)
            return
        carried = self._adopt(fresh, experiment_id) if fresh else {}
        for some in _by_points(list(carried.values())):
            self._points(some, carried)
            self._finish([run for run in some if run.id in carried])
        self._task.advance(len(page))

    def _fresh(self, page: Sequence[SourceRun]) -> Iterator[SourceRun]:
        """The runs that are new, or have changed since they were carried."""
        known = self._adoption.known([run.id for run in page], [ORIGIN_TAG, STATE_TAG])
        for run in page:
            held = known.get(run.id)
            if held is None:
                yield run
            elif held.project != self._ws.scope.project:
                self._report.omit(
                    f"run {run.id}", f"the project {held.project!r} has a run of that id; it is untouched"
                )
            elif ORIGIN_TAG not in held.tags:
                self._report.omit(f"run {run.id}", "a run of that id is here that no import brought; it is untouched")
            elif held.tags.get(STATE_TAG) == state_of(run):
                self._report.already("runs")
            elif held.deleted:
                self._report.omit(f"run {run.id}", "it was deleted here, and has changed there since")
            else:
                yield run

    def _count(self, runs: Sequence[SourceRun]) -> None:
        for run in runs:
            self._report.count("runs")
            if run.points is not None:
                self._report.count("points", run.points)
            else:
                self._report.count("metrics", len(run.latest))
            if self._plan.files:
                count_files(self._source, f"run:{run.id}", run.artifact_uri, self._report)
        self._task.advance(len(runs))

    def _adopt(self, runs: Sequence[SourceRun], experiment_id: str) -> dict[str, SourceRun]:
        refused = self._adoption.runs([to_run(self._storable(run), experiment_id, self._report.source) for run in runs])
        for id, error in refused.items():
            self._report.omit(f"run {id}", error)
        return {run.id: run for run in runs if run.id not in refused}

    def _storable(self, run: SourceRun) -> SourceRun:
        params, bad_params = storable(run.params)
        tags, bad_tags = storable(run.tags)
        for noun, bad in (("param", bad_params), ("tag", bad_tags)):
            for key, reason in bad.items():
                self._report.omit(f"{noun} {key!r} of run {run.id}", reason)
        return msgspec.structs.replace(run, params=params, tags=tags)

    def _points(self, runs: Sequence[SourceRun], carried: dict[str, SourceRun]) -> None:
        for piece in self._source.points(runs):
            good = {place: columns for place, columns in piece.items() if self._is_key(*place)}
            refused = self._adoption.points(good)
            for id, error in refused.items():
                self._report.omit(f"points of run {id}", error)
                carried.pop(id, None)
            self._report.count("points", sum(len(item) for (id, _), item in good.items() if id not in refused))

    def _is_key(self, run: str, key: str) -> bool:
        good = 0 < len(key) <= 250 and key.isprintable()
        if not good:
            self._report.omit(f"metric {printable(key)[:60]!r} of run {run}", "its name cannot be printed")
        return good

    def _finish(self, runs: Sequence[SourceRun]) -> None:
        """Carry the files of runs, and mark those as in whole whose files could be carried."""
        whole = [run for run in runs if not self._plan.files or self._files(f"run:{run.id}", run.artifact_uri)]
        gone = {run.id: time_of(run.deleted_ms) for run in runs if run.deleted}
        self._adoption.settle({run.id: {STATE_TAG: state_of(run)} for run in whole}, gone)
        self._report.count("runs", len(runs))

    def _files(self, owner: str, uri: str) -> bool:
        return carry_files(self._ws, self._source, owner, uri, self._report)

    def _logged(self, model: SourceLogged, experiment_id: str) -> None:
        self._places.models[model.id] = model.artifact_uri
        if self._plan.dry_run:
            self._report.count("logged models")
            if self._plan.files:
                count_files(self._source, f"model:{model.id}", model.artifact_uri, self._report)
            return
        state = state_of(model)
        if self._is_here(model.id, state):
            self._report.already("logged models")
            return
        params, _ = storable(model.params)
        tags, bad = storable(model.tags)
        for key, reason in bad.items():
            self._report.omit(f"tag {key!r} of logged model {model.id}", reason)
        kept = msgspec.structs.replace(model, params=params, tags=tags)
        try:
            self._adoption.logged_model(to_logged(kept, experiment_id, self._report.source))
        except LoopwrightError as error:
            self._report.omit(f"logged model {model.id}", error)
            return
        if not self._plan.files or self._files(f"model:{model.id}", model.artifact_uri):
            self._ws.logged_models.set_tags(model.id, {STATE_TAG: state})
        self._report.count("logged models")

    def _is_here(self, id: str, state: str) -> bool:
        try:
            return self._ws.logged_models.get(id, deleted=True).tags.get(STATE_TAG) == state
        except NotFound:
            return False


def _by_points(runs: Sequence[SourceRun]) -> Iterator[list[SourceRun]]:
    """The runs in groups that are marked together, so that little is done again after a break."""
    some: list[SourceRun] = []
    count = 0
    for run in runs:
        some.append(run)
        count += run.points if run.points is not None else 10_000 * len(run.latest)
        if count >= _POINTS_AT_ONCE:
            yield some
            some, count = [], 0
    if some:
        yield some
