"""Runs that another tracker made are taken in as they were: ids, times, ends, and who ran them.

These are no operations: nobody may write the past of a workspace over the network. Adopting says nothing in the log of
events, for nothing happened but the move itself, which the caller tells of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection, insert, select, update

from loopwright.core import Conflict, Invalid, LoopwrightError, Scope, is_id, new_id
from loopwright.store import Stores
from loopwright.track.batches import Batch, write_batches
from loopwright.track.columns import Columns
from loopwright.track.contents import note_contents
from loopwright.track.lifecycle import check_title, insert_run
from loopwright.track.logged.model import LoggedMetric, LoggedStatus
from loopwright.track.logged.tables import logged_models, logged_params, logged_tags
from loopwright.track.logged.writing import write_logged_metrics
from loopwright.track.model import DatasetUse, Experiment, ModelUse, RunStatus
from loopwright.track.owned_texts import write_texts as write_owned_texts
from loopwright.track.reading import experiment_by_id, find_experiment, the_run
from loopwright.track.revisions import touch, touch_found
from loopwright.track.tables import experiment_tags, experiments, run_keys, run_tags, runs
from loopwright.track.values import check_key, check_text
from loopwright.track.writing import write_texts

_CHUNK = 500


class AdoptedExperiment(msgspec.Struct, frozen=True):
    """An experiment of another tracker."""

    name: str
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str] = {}


class AdoptedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of another tracker, but for its points and files."""

    id: str
    experiment_id: str
    name: str
    status: RunStatus
    started_at: datetime
    ended_at: datetime | None = None
    actor: str = ""
    parent: str = ""
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    datasets: Sequence[DatasetUse] = ()
    models_read: Sequence[ModelUse] = ()
    models_made: Sequence[ModelUse] = ()


class AdoptedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model of another tracker, but for its files."""

    id: str
    experiment_id: str
    name: str
    created_at: datetime
    updated_at: datetime
    model_type: str = ""
    source_run: str = ""
    status: LoggedStatus = LoggedStatus.READY
    status_message: str = ""
    actor: str = ""
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    metrics: Sequence[LoggedMetric] = ()


class KnownRun(msgspec.Struct, frozen=True):
    """What is here already under a run's id: the project, whether it is deleted, and the tags that were asked for."""

    project: str
    deleted: bool
    tags: Mapping[str, str]


class AdoptionService:
    """Takes runs of other trackers into one project of a local workspace."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    def experiment(self, wanted: AdoptedExperiment) -> Experiment:
        """The experiment of that name, made with its own times if there is none; tags that it has not are added.

        Raises:
            Conflict: it is deleted here.
            Invalid: the name or a tag cannot be stored.
        """
        project, name = self.scope.project, check_title("experiment", wanted.name)
        times = {"created_at": wanted.created_at, "updated_at": wanted.updated_at}
        row = {"id": new_id(), "project": project, "name": name, **times}
        tags = [
            {"key": check_key("tag", key), "value": check_text("tag", key, value)} for key, value in wanted.tags.items()
        ]
        with self.stores.db.begin() as tx:
            tx.execute(self.stores.db.upsert(experiments, row, ["project", "name"]))
            found = find_experiment(tx, project, name)
            if found is None:
                raise Conflict(f"the experiment {name!r} was removed while it was made", next_step="try again")
            if tags:
                rows = [{"experiment_id": found.id, **tag} for tag in tags]
                tx.execute(self.stores.db.upsert(experiment_tags, {}, ["experiment_id", "key"]), rows)
            return experiment_by_id(tx, project, found.id) or found

    def known(self, ids: Sequence[str], tags: Sequence[str]) -> dict[str, KnownRun]:
        """What any project of the workspace has under these run ids, with those of the named tags that are set."""
        found: dict[str, KnownRun] = {}
        with self.stores.db.read() as connection:
            for start in range(0, len(ids), _CHUNK):
                some = list(ids[start : start + _CHUNK])
                held = connection.execute(select(runs).where(runs.c.id.in_(some))).all()
                texts = _tags_of(connection, [row.seq for row in held], tags)
                for row in held:
                    found[row.id] = KnownRun(row.project, row.deleted_at is not None, texts.get(row.seq, {}))
        return found

    def runs(self, wanted: Sequence[AdoptedRun]) -> dict[str, LoopwrightError]:
        """Take runs in, or bring those that are here to the given state; why some were refused, by id.

        Each run is taken whole or not at all.
        """
        refused: dict[str, LoopwrightError] = {}
        with self.stores.db.begin() as tx:
            for run in wanted:
                try:
                    with tx.begin_nested():
                        self._put_run(tx, run)
                except LoopwrightError as error:
                    refused[run.id] = error
        return refused

    def points(self, series: Mapping[tuple[str, str], Columns]) -> dict[str, LoopwrightError]:
        """Store points by run id and key, all in one transaction; why those of some runs were refused, by id."""
        by_run: dict[str, dict[str, Columns]] = {}
        for (run, key), columns in series.items():
            by_run.setdefault(run, {})[check_key("metric", key)] = columns
        batches = [Batch(self.scope.project, run, points) for run, points in sorted(by_run.items())]
        with self.stores.db.begin() as tx:
            outcome = write_batches(self.stores.db, tx, batches)
        return {item.run: error for item, error in zip(batches, outcome, strict=True) if error is not None}

    def settle(self, tags: Mapping[str, Mapping[str, str]], deleted: Mapping[str, datetime]) -> None:
        """Set last tags of runs that are in whole, and mark those deleted that were where they came from."""
        with self.stores.db.begin() as tx:
            for run, texts in sorted(tags.items()):
                write_texts(self.stores.db, tx, the_run(tx, self.scope.project, run), {}, texts)
            for run, at in sorted(deleted.items()):
                mine = (runs.c.id == run) & (runs.c.project == self.scope.project)
                touch_found(tx, select(runs.c.seq).where(mine))
                tx.execute(update(runs).where(mine).values(deleted_at=at))

    def logged_model(self, wanted: AdoptedModel) -> None:
        """Take a logged model in, or bring the one that is here to the given state.

        Raises:
            Conflict: another project has one of that id, or it is deleted here.
            Invalid: its id, name, a param, tag or metric cannot be stored.
        """
        mark, _, rest = wanted.id.partition("-")
        if mark != "m" or not is_id(rest):
            raise Invalid(f"{wanted.id[:60]!r} is no id of a logged model", next_step="it is 'm-' and 32 hex digits")
        database, project = self.stores.db, self.scope.project
        left_out = ("id", "params", "tags", "metrics")
        values = {name: getattr(wanted, name) for name in AdoptedModel.__struct_fields__ if name not in left_out}
        values["name"] = check_title("logged model", wanted.name)
        with database.begin() as tx:
            held = tx.execute(select(logged_models).where(logged_models.c.id == wanted.id)).first()
            if held is not None and (held.project != project or held.deleted_at is not None):
                state = "deleted here" if held.project == project else "one of another project"
                raise Conflict(f"the logged model {wanted.id} is {state}", next_step="import into a project of its own")
            if held is None:
                tx.execute(insert(logged_models).values(id=wanted.id, project=project, **values))
            else:
                tx.execute(update(logged_models).where(logged_models.c.id == wanted.id).values(values))
            write_owned_texts(database, tx, logged_params, wanted.id, "param", wanted.params)
            write_owned_texts(database, tx, logged_tags, wanted.id, "tag", wanted.tags)
            write_logged_metrics(database, tx, wanted.id, wanted.metrics)

    def tell(self, kind: str, subject: str, evidence: Mapping[str, object]) -> None:
        """Note in the log of events that something was brought here."""
        with self.stores.db.begin() as tx:
            self.stores.events.append(tx, kind, subject, self.scope, evidence)

    def _put_run(self, tx: Connection, run: AdoptedRun) -> None:
        if not is_id(run.id):
            raise Invalid(f"{run.id[:60]!r} is not a run id", next_step="an id has 32 hex digits")
        check_title("run", run.name)
        values = {
            "experiment_id": run.experiment_id,
            "name": run.name,
            "status": run.status,
            "actor": run.actor,
            "parent": run.parent if is_id(run.parent) else "",
            "started_at": run.started_at,
        }
        held = tx.execute(select(runs).where(runs.c.id == run.id)).first()
        if held is None:
            seq = insert_run(tx, {"id": run.id, "project": self.scope.project, "kind": "run", **values})
            tx.execute(update(runs).where(runs.c.seq == seq).values(ended_at=run.ended_at))
            attrs = {"name": run.name, "kind": "run"}
            self.stores.lineage.node(tx, f"run:{run.id}", attrs=attrs, project=self.scope.project)
        elif held.project != self.scope.project or held.deleted_at is not None:
            raise Conflict(f"the run {run.id} is deleted, or of another project")
        else:
            seq = held.seq
            touch(tx, [seq])
            tx.execute(update(runs).where(runs.c.seq == seq).values(ended_at=run.ended_at, **values))
        write_texts(self.stores.db, tx, seq, run.params, run.tags)
        row = the_run(tx, self.scope.project, run.id)
        note_contents(self.stores.db, tx, row, run.datasets, run.models_read, run.models_made)


def _tags_of(connection: Connection, seqs: Sequence[int], keys: Sequence[str]) -> dict[int, dict[str, str]]:
    query = (
        select(run_tags.c.run_seq, run_keys.c.key, run_tags.c.value)
        .join(run_keys, run_keys.c.id == run_tags.c.key_id)
        .where(run_tags.c.run_seq.in_(list(seqs)), run_keys.c.key.in_(list(keys)))
    )
    found: dict[int, dict[str, str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.run_seq, {})[row.key] = row.value
    return found
