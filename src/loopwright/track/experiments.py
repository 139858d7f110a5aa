"""What one can ask of experiments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from loopwright.core import Conflict, NotFound, Scope, new_id, operation
from loopwright.store import Stores
from loopwright.track.lifecycle import check_title
from loopwright.track.model import Experiment, ExperimentCounts, ExperimentPage, Lifecycle, RunStatus, View
from loopwright.track.reading import experiment_by_id, find_experiment
from loopwright.track.revisions import note_name, touch_found
from loopwright.track.search.counting import STATUS, count_held
from loopwright.track.search.experiments import Question, search_experiments
from loopwright.track.search.held import held_runs_of
from loopwright.track.tables import experiment_tags, experiments, runs, unindexed
from loopwright.track.values import check_key, check_text

_STATUSES = sorted(status.value for status in RunStatus)


class ExperimentService:
    """Experiments of one project. One is named by its id, or where a person asks, by its name."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("experiments.create", permission="runs:write", effect="write")
    def create(self, name: str, tags: dict[str, str] | None = None) -> Experiment:
        """Make an experiment.

        Raises:
            Conflict: there is one of that name, perhaps deleted.
            Invalid: the name or a tag cannot be stored.
        """
        row = self._new_row(check_title("experiment", name))
        with self.stores.db.begin() as tx:
            tx.execute(self.stores.db.upsert(experiments, row, ["project", "name"]))
            found = find_experiment(tx, self.scope.project, name)
            if found is None or found.id != row["id"]:
                raise _taken(name, found)
            self._write_tags(tx, found.id, tags or {})
            self._tell(tx, found, "experiment.created")
            return self._the(tx, found.id)

    @operation("experiments.get", permission="runs:read")
    def get(self, experiment: str) -> Experiment:
        """An experiment by its id or name, deleted or not.

        Raises:
            NotFound: there is none.
        """
        with self.stores.db.read() as connection:
            return self._the(connection, experiment)

    @operation("experiments.find", permission="runs:read")
    def find(self, name: str) -> Experiment | None:
        """The experiment of that name, deleted or not, if there is one."""
        with self.stores.db.read() as connection:
            return find_experiment(connection, self.scope.project, name)

    @operation("experiments.search", permission="runs:read")
    def search(
        self,
        filter: str = "",
        view: View = View.ACTIVE,
        limit: int = 1000,
        order_by: tuple[str, ...] = (),
        after: str = "",
    ) -> ExperimentPage:
        """Experiments that match a filter, last changed first unless ordered otherwise.

        Args:
            filter: such as `name LIKE 'delay%' and tags.team = 'ops'`.
            limit: experiments on a page, at most 50,000.
            order_by: such as `("name ASC",)`: `name`, `id`, `created_at` or `updated_at`.
            after: `next` of the page before this one.

        Raises:
            Invalid: the filter, the order, the limit or the page token is malformed.
        """
        with self.stores.db.read() as connection:
            asked = Question(self.scope.project, filter, View(view), limit, tuple(order_by), after)
            return search_experiments(self.stores.db, connection, asked)

    @operation("experiments.counts", permission="runs:read")
    def counts(self) -> list[ExperimentCounts]:
        """How many runs each experiment has, for those that have any; deleted runs are left out."""
        held = held_runs_of(self.stores.db, self.stores.location.settings.search_memory_bytes // 2)
        with self.stores.db.read() as connection:
            with held.reading(connection, {STATUS}) as ready:
                if ready:
                    return count_held(held, self.scope.project)
            return self._counted(connection)

    def _counted(self, connection: Connection) -> list[ExperimentCounts]:
        columns = runs.c
        # A group for each status, too, would have to be sorted together; those of an experiment lie so in an index.
        each = [func.sum(case((columns.status == status, 1), else_=0)) for status in _STATUSES]
        mine = (unindexed(columns.project) == self.scope.project) & columns.deleted_at.is_(None)
        query = select(columns.experiment_id, func.max(columns.started_at), *each).where(mine)
        query = query.group_by(columns.experiment_id).order_by(columns.experiment_id)
        return [
            ExperimentCounts(id, {status: int(n) for status, n in zip(_STATUSES, many, strict=True) if n}, newest)
            for id, newest, *many in connection.execute(query)
        ]

    @operation("experiments.rename", permission="runs:write", effect="write")
    def rename(self, experiment: str, name: str) -> Experiment:
        """Give an experiment another name.

        Raises:
            NotFound: there is no such experiment.
            Conflict: it is deleted, or another one has that name.
            Invalid: the name cannot be stored.
        """
        check_title("experiment", name)
        with self.stores.db.begin() as tx:
            found = self._active(tx, experiment)
            other = find_experiment(tx, self.scope.project, name)
            if other is not None and other.id != found.id:
                raise _taken(name, other)
            note_name(tx)
            self._change(tx, found.id, {"name": name})
            self._tell(tx, found, "experiment.renamed", {"to": name})
            return self._the(tx, found.id)

    @operation("experiments.set_tag", permission="runs:write", effect="write")
    def set_tag(self, experiment: str, key: str, value: str) -> None:
        """Set a tag of an experiment; it takes the new value.

        Raises:
            NotFound: there is no such experiment.
            Conflict: it is deleted.
            Invalid: the key or value cannot be stored.
        """
        with self.stores.db.begin() as tx:
            found = self._active(tx, experiment)
            self._write_tags(tx, found.id, {key: value})
            self._change(tx, found.id, {})

    @operation("experiments.delete_tag", permission="runs:write", effect="write")
    def delete_tag(self, experiment: str, key: str) -> None:
        """Take a tag off an experiment.

        Raises:
            NotFound: there is no such experiment, or it has no such tag.
            Conflict: it is deleted.
        """
        columns = experiment_tags.c
        with self.stores.db.begin() as tx:
            found = self._active(tx, experiment)
            mine = (columns.experiment_id == found.id) & (columns.key == key)
            if tx.execute(experiment_tags.delete().where(mine)).rowcount != 1:
                raise NotFound(f"the experiment {found.name!r} has no tag {key[:250]!r}")
            self._change(tx, found.id, {})

    @operation("experiments.delete", permission="runs:write", effect="write")
    def delete(self, experiment: str) -> None:
        """Delete an experiment with its runs; `restore` brings all of them back until `loopwright gc` removes them.

        Raises:
            NotFound: there is no such experiment.
        """
        with self.stores.db.begin() as tx:
            found, now = self._the(tx, experiment), self.stores.clock.now()
            if found.lifecycle is Lifecycle.DELETED:
                return
            self._change(tx, found.id, {"deleted_at": now})
            mine = (runs.c.experiment_id == found.id) & runs.c.deleted_at.is_(None)
            touch_found(tx, select(runs.c.seq).where(mine))
            count = tx.execute(update(runs).where(mine).values(deleted_at=now)).rowcount
            self._tell(tx, found, "experiment.deleted", {"runs": count})

    @operation("experiments.restore", permission="runs:write", effect="write")
    def restore(self, experiment: str) -> None:
        """Bring a deleted experiment back, with the runs that were deleted with it.

        Raises:
            NotFound: there is no such experiment, or gc has removed it.
        """
        with self.stores.db.begin() as tx:
            found = self._the(tx, experiment)
            if found.lifecycle is Lifecycle.ACTIVE:
                return
            with_it = experiments.select().with_only_columns(experiments.c.deleted_at)
            at = with_it.where(experiments.c.id == found.id).scalar_subquery()
            mine = (runs.c.experiment_id == found.id) & (runs.c.deleted_at == at)
            touch_found(tx, select(runs.c.seq).where(mine))
            count = tx.execute(update(runs).where(mine).values(deleted_at=None)).rowcount
            self._change(tx, found.id, {"deleted_at": None})
            self._tell(tx, found, "experiment.restored", {"runs": count})

    def _new_row(self, name: str) -> dict[str, Any]:
        now = self.stores.clock.now()
        return {"id": new_id(), "project": self.scope.project, "name": name, "created_at": now, "updated_at": now}

    def _the(self, connection: Connection, experiment: str) -> Experiment:
        project = self.scope.project
        found = experiment_by_id(connection, project, experiment.removeprefix("experiment:"))
        found = found or find_experiment(connection, project, experiment.removeprefix("experiment:"))
        if found is None:
            raise NotFound(
                f"there is no experiment {experiment[:60]!r} in project {project!r}",
                next_step="loopwright experiments search lists them",
            )
        return found

    def _active(self, connection: Connection, experiment: str) -> Experiment:
        found = self._the(connection, experiment)
        if found.lifecycle is Lifecycle.DELETED:
            raise Conflict(
                f"the experiment {found.name!r} is deleted",
                next_step=f"loopwright experiments restore {found.id} brings it back",
            )
        return found

    def _change(self, tx: Connection, id: str, values: Mapping[str, datetime | str | None]) -> None:
        changed = {"updated_at": self.stores.clock.now(), **values}
        tx.execute(update(experiments).where(experiments.c.id == id).values(changed))

    def _write_tags(self, tx: Connection, id: str, tags: Mapping[str, str]) -> None:
        rows = [
            {"experiment_id": id, "key": check_key("tag", key), "value": check_text("tag", key, value)}
            for key, value in tags.items()
        ]
        if rows:
            tx.execute(self.stores.db.upsert(experiment_tags, {}, ["experiment_id", "key"], ["value"]), rows)

    def _tell(self, tx: Connection, found: Experiment, kind: str, more: Mapping[str, Any] | None = None) -> None:
        evidence = {"name": found.name, **(more or {})}
        self.stores.events.append(tx, kind, f"experiment:{found.id}", self.scope, evidence)


def _taken(name: str, found: Experiment | None) -> Conflict:
    if found is not None and found.lifecycle is Lifecycle.DELETED:
        return Conflict(
            f"an experiment {name!r} is there, but deleted",
            next_step=f"loopwright experiments restore {found.id} brings it back; or choose another name",
        )
    return Conflict(f"there is an experiment {name!r} already", next_step="choose another name, or use that one")
