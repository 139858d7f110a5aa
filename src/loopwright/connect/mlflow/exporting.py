"""Carrying a project into an MLflow server.

MLflow mints the ids of runs and logged models there; ours stay as the tags `loopwright.run_id` and
`loopwright.model_id`, by which a second export finds what it carried. A run is marked as in whole
(`loopwright.export_state`) when its points and files are there; one that has changed since is carried again, which
changes nothing that is there already.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from loopwright.connect.mlflow.api import V2, MlflowApi
from loopwright.connect.mlflow.mapping import THEIR_DEFAULT, state_of, their_name
from loopwright.connect.mlflow.model import Plan, Report
from loopwright.connect.mlflow.outgoing import (
    EXPORT_STATE,
    MODEL_ID,
    RUN_ID,
    carriable,
    creating,
    ending,
    logged_metrics,
    pairs,
)
from loopwright.connect.mlflow.publishing import export_models
from loopwright.connect.mlflow.rest import RestSource
from loopwright.connect.mlflow.sending import LoggedTarget, Place, send_files, send_points, send_texts
from loopwright.core import Conflict, LoopwrightError, NotFound, Task, Unavailable, progress
from loopwright.track import Experiment, Lifecycle, LoggedModel, Run, RunContents, View
from loopwright.workspace import Workspace

_PAGE = 200


def export_mlflow(ws: Workspace, api: MlflowApi, plan: Plan) -> Report:
    """Carry a project into a server, or with `dry_run`, count what that would carry.

    Raises:
        NotFound: there is no experiment of a name that was asked for.
        Unavailable: the server does not answer.
    """
    began = time.monotonic()
    report = Report(source=f"project {ws.scope.project!r}", dry_run=plan.dry_run)
    report.notes.append("times were carried to the millisecond, which is what MLflow keeps")
    exporter = _Exporter(ws, api, plan, report)
    with progress("runs") as task:
        for experiment in _chosen(ws, plan.experiments):
            exporter.experiment(experiment, task)
    if plan.models:
        export_models(ws, api, report, exporter.runs, exporter.models, only_carried=bool(plan.experiments))
    report.seconds = round(time.monotonic() - began, 3)
    return report


def _chosen(ws: Workspace, names: tuple[str, ...]) -> Iterator[Experiment]:
    if names:
        yield from [ws.experiments.get(name) for name in dict.fromkeys(names)]
        return
    after = ""
    while True:
        page = ws.experiments.search(view=View.ALL, limit=_PAGE, after=after)
        yield from page.experiments
        after = page.next
        if not after:
            return


class _Known(msgspec.Struct):
    """What is there of our runs: where their files go, and the state in which each was carried."""

    place: Place
    state: str
    deleted: bool


class _Exporter:
    """A project on its way. `runs` and `models` say where ours are there, by our id."""

    def __init__(self, ws: Workspace, api: MlflowApi, plan: Plan, report: Report) -> None:
        self._ws, self._api, self._plan, self._report = ws, api, plan, report
        self._theirs = RestSource(api)
        self.runs: dict[str, Place] = {}
        self.models: dict[str, Place] = {}

    def experiment(self, ours: Experiment, task: Task) -> None:
        """Carry one experiment with its runs and logged models."""
        try:
            id = self._find(ours)
        except Unavailable:
            raise
        except LoopwrightError as error:
            self._report.omit(f"experiment {ours.name!r}", error)
            return
        if id is None:
            return
        known = self._known_runs(id) if id else {}
        models = list(self._logged_models(ours.id))
        after = ""
        while True:
            page = self._ws.runs.search_page(
                experiments=[ours.id], view=View.ALL, limit=_PAGE, after=after, order_by=("started_at ASC",)
            )
            contents = {item.run: item for item in self._ws.runs.contents([run.id for run in page.runs])}
            for run in page.runs:
                self._run(run, contents[run.id], id, known)
                task.advance()
            after = page.next
            if not after:
                break
        self._logged(models, id)
        self._close(ours, id)

    def _find(self, ours: Experiment) -> str | None:
        """The experiment's id there, made if it is missing; empty in a dry run if it is missing, and None if there is
        nothing to do, since it is deleted on both sides.

        Raises:
            Conflict: it is deleted there.
        """
        name = their_name(ours.name)
        try:
            found = self._api.get(f"{V2}/experiments/get-by-name", experiment_name=name)["experiment"]
        except NotFound:
            self._report.count("experiments")
            if self._plan.dry_run:
                return ""
            tags, bad = carriable(ours.tags, 5000)
            for key, reason in bad.items():
                self._report.omit(f"tag {key!r} of experiment {ours.name!r}", reason)
            return str(self._api.post(f"{V2}/experiments/create", {"name": name, "tags": pairs(tags)})["experiment_id"])
        self._report.already("experiments")
        if found.get("lifecycle_stage") == "deleted":
            if ours.lifecycle is Lifecycle.DELETED:
                return None
            raise Conflict("it is deleted there", next_step="restore it there, and export again")
        return str(found["experiment_id"])

    def _known_runs(self, experiment_id: str) -> dict[str, _Known]:
        found: dict[str, _Known] = {}
        for page in self._theirs.runs(experiment_id):
            for run in page:
                ours = run.tags.get(RUN_ID, run.id)
                found[ours] = _Known(Place(run.id, run.artifact_uri), run.tags.get(EXPORT_STATE, ""), run.deleted)
        return found

    def _run(self, run: Run, contents: RunContents, experiment_id: str, known: dict[str, _Known]) -> None:
        state = state_of([run, contents])
        there = known.get(run.id)
        if there is not None:
            self.runs[run.id] = there.place
            if there.place.id == run.id or there.state == state:
                self._report.already("runs")
                return
            if there.deleted:
                self._report.omit(f"run {run.id}", "it is deleted there, and has changed here since")
                return
        self._report.count("runs")
        if self._plan.dry_run:
            self._report.count("metrics", len(contents.latest))
            return
        try:
            place = there.place if there else self._create(run, experiment_id)
            self.runs[run.id] = place
            if self._fill(run, contents, place):
                self._set_tag(place.id, EXPORT_STATE, state)
            self._end(run, place.id)
        except Unavailable:
            raise
        except LoopwrightError as error:
            self._report.omit(f"run {run.id}", error)

    def _create(self, run: Run, experiment_id: str) -> Place:
        made = self._api.post(f"{V2}/runs/create", creating(run, experiment_id))["run"]["info"]
        return Place(made["run_id"], made["artifact_uri"])

    def _fill(self, run: Run, contents: RunContents, place: Place) -> bool:
        send_texts(self._api, run, place.id, self.runs, self._report)
        send_points(self._ws, self._api, run, contents, place.id, self._report)
        self._send_datasets(run, contents, place)
        for item in run.inputs:
            if not item.ref.startswith("mlflow-dataset:"):
                self._report.omit(f"input {item.ref} of run {run.id}", "MLflow knows no such refs")
        return not self._plan.files or send_files(self._ws, self._api, run.ref, place, self._report)

    def _send_datasets(self, run: Run, contents: RunContents, place: Place) -> None:
        uses = [_dataset(item) for item in contents.datasets]
        if not uses:
            return
        try:
            self._api.post(f"{V2}/runs/log-inputs", {"run_id": place.id, "datasets": uses})
        except NotFound:
            self._report.omit(f"datasets of run {run.id}", "a server before MLflow 2.4 keeps none", len(uses))

    def _end(self, run: Run, id: str) -> None:
        self._api.post(f"{V2}/runs/update", ending(run, id))
        if run.lifecycle is Lifecycle.DELETED:
            self._api.post(f"{V2}/runs/delete", {"run_id": id})

    def _set_tag(self, id: str, key: str, value: str) -> None:
        self._api.post(f"{V2}/runs/set-tag", {"run_id": id, "key": key, "value": value})

    def _logged_models(self, experiment_id: str) -> Iterator[LoggedModel]:
        after = ""
        while True:
            page = self._ws.logged_models.search([experiment_id], limit=_PAGE, after=after)
            yield from page.models
            after = page.next
            if not after:
                return

    def _logged(self, models: list[LoggedModel], experiment_id: str) -> None:
        if not models:
            return
        if self._plan.dry_run:
            self._report.count("logged models", len(models))
            return
        known = {
            item.tags.get(MODEL_ID, item.id): Place(item.id, item.artifact_uri)
            for item in self._theirs.logged_models(experiment_id)
        }
        for model in models:
            there = known.get(model.id)
            if there is not None:
                self.models[model.id] = there
                self._report.already("logged models")
                continue
            try:
                self.models[model.id] = self._send_model(model, experiment_id)
                self._report.count("logged models")
            except Unavailable:
                raise
            except LoopwrightError as error:
                self._report.omit(f"logged model {model.id}", error)

    def _send_model(self, model: LoggedModel, experiment_id: str) -> Place:
        run = self.runs.get(model.source_run)
        target = LoggedTarget(self._api, experiment_id, run.id if run else "")
        place = target.create(model)
        self._link(model, place)
        metrics, bad = logged_metrics(model, place.id, self.runs)
        for key, reason in bad.items():
            self._report.omit(f"metric {key!r} of logged model {model.id}", reason)
        for metric in metrics:
            self._api.post(f"{V2}/runs/log-metric", metric)
        whole = not self._plan.files or send_files(self._ws, self._api, f"model:{model.id}", place, self._report)
        target.finish(model, place, whole)
        return place

    def _link(self, model: LoggedModel, place: Place) -> None:
        """Note which run read or made the model."""
        contents = self._ws.runs.contents([model.source_run]) if model.source_run in self.runs else []
        for item in contents:
            id = self.runs[model.source_run].id
            made = [{"model_id": place.id, "step": use.step} for use in item.models_made if use.model == model.id]
            if made:
                self._api.post(f"{V2}/runs/outputs", {"run_id": id, "models": made})
            if any(use.model == model.id for use in item.models_read):
                self._api.post(f"{V2}/runs/log-inputs", {"run_id": id, "models": [{"model_id": place.id}]})

    def _close(self, ours: Experiment, id: str) -> None:
        if (
            id
            and not self._plan.dry_run
            and ours.lifecycle is Lifecycle.DELETED
            and their_name(ours.name) != THEIR_DEFAULT
        ):
            self._api.post(f"{V2}/experiments/delete", {"experiment_id": id})


def _dataset(item: object) -> dict[str, object]:
    use = msgspec.to_builtins(item)
    return {"dataset": {key: use[key] for key in use if key != "tags"}, "tags": pairs(use["tags"])}
