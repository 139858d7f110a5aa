"""What becomes of a run: it starts, takes params and tags, ends, changes, is deleted and restored."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from loopwright.core import Invalid, NotFound, Scope, operation
from loopwright.store import Stores
from loopwright.track.lifecycle import (
    NewRun,
    change_run,
    delete_run,
    end_run,
    restore_run,
    start_run,
    tell_end,
)
from loopwright.track.model import Experiment, Run, RunStatus
from loopwright.track.reading import any_run, find_experiment, load_runs, the_run
from loopwright.track.writing import remove_tag, write_texts


class RunLife:
    """The operations on runs as wholes; `RunService` adds what runs hold, and searching."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("runs.start", permission="runs:write", effect="write")
    def start(
        self,
        experiment: str = "default",
        name: str = "",
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        parent: str = "",
        run_id: str = "",
        kind: str = "run",
    ) -> Run:
        """Start a run, or with the id of one that did not finish, go on with it.

        Args:
            experiment: its experiment; made if there is none of that name.
            name: a name for people; by default made from the id.
            parent: the id of the run that this one is a part of.
            run_id: an id from `new_id()`, for a caller that must know it beforehand.
            kind: `run`, `pipeline`, `search`, `trial`, …

        Raises:
            Conflict: the run has finished, or the id belongs to another project.
            Invalid: a name, param or tag cannot be stored.
        """
        wanted = NewRun(experiment, name, params or {}, tags or {}, parent, run_id, kind)
        with self.stores.db.begin() as tx:
            return start_run(self.stores, self.scope, tx, wanted)

    @operation("runs.finish", permission="runs:write", effect="write")
    def finish(self, run: str, status: RunStatus = RunStatus.FINISHED, error: str = "") -> Run:
        """End a run. Ending it again in the same way changes nothing.

        Args:
            error: why it failed, in a sentence or a few.

        Raises:
            NotFound: there is no such run.
            Conflict: it has ended in another way.
            Invalid: `status` is no end.
        """
        status = RunStatus(status)
        if status is RunStatus.RUNNING:
            raise Invalid("a run cannot end as 'running'", next_step="use finished, failed or killed")
        with self.stores.db.begin() as tx:
            row = the_run(tx, self.scope.project, run)
            if not end_run(tx, row, status, error, self.stores.clock.now()):
                return self._load(tx, row.id)
            found = self._load(tx, row.id)
            tell_end(self.stores, self.scope, tx, found)
            return found

    @operation("runs.log_params", permission="runs:write", effect="write")
    def log_params(self, run: str, params: dict[str, str]) -> None:
        """Add params to a run; a param keeps its first value.

        Raises:
            NotFound: there is no such run.
            Conflict: a param has another value already; then none of these is stored.
            Invalid: a key or value cannot be stored.
        """
        with self.stores.db.begin() as tx:
            write_texts(self.stores.db, tx, the_run(tx, self.scope.project, run), params, {})

    @operation("runs.set_tags", permission="runs:write", effect="write")
    def set_tags(self, run: str, tags: dict[str, str]) -> None:
        """Set tags of a run; a tag takes the new value.

        Raises:
            NotFound: there is no such run.
            Invalid: a key or value cannot be stored.
        """
        with self.stores.db.begin() as tx:
            write_texts(self.stores.db, tx, the_run(tx, self.scope.project, run), {}, tags)

    @operation("runs.delete_tag", permission="runs:write", effect="write")
    def delete_tag(self, run: str, key: str) -> None:
        """Take a tag off a run.

        Raises:
            NotFound: there is no such run, or it has no such tag.
            Conflict: the run is deleted.
        """
        with self.stores.db.begin() as tx:
            remove_tag(self.stores.db, tx, the_run(tx, self.scope.project, run), key)

    @operation("runs.update", permission="runs:write", effect="write")
    def update(
        self, run: str, name: str = "", status: RunStatus | None = None, ended_at: datetime | None = None
    ) -> Run:
        """Change a run's name, status or end, whatever they are now: a run that has ended may run again.

        Args:
            name: the new name; empty keeps it.
            status: the new status; a run set running has no end, one that ends does so now unless told.
            ended_at: when it ended; needs a status other than running, or a run that has ended.

        Raises:
            NotFound: there is no such run.
            Conflict: it is deleted.
            Invalid: the name cannot be stored, or a running run was given an end.
        """
        with self.stores.db.begin() as tx:
            row = the_run(tx, self.scope.project, run)
            change_run(self.stores, self.scope, tx, row, name, status, ended_at)
            found = self._load(tx, row.id)
            if row.status == RunStatus.RUNNING and found.status is not RunStatus.RUNNING:
                tell_end(self.stores, self.scope, tx, found)
            return found

    @operation("runs.delete", permission="runs:write", effect="write")
    def delete(self, run: str) -> None:
        """Delete a run, so that no search finds it; `restore` brings it back until `loopwright gc` removes it.

        Raises:
            NotFound: there is no such run.
        """
        with self.stores.db.begin() as tx:
            delete_run(self.stores, self.scope, tx, any_run(tx, self.scope.project, run))

    @operation("runs.restore", permission="runs:write", effect="write")
    def restore(self, run: str) -> None:
        """Bring a deleted run back.

        Raises:
            NotFound: there is no such run, or gc has removed it.
            Conflict: its experiment is deleted; restore that.
        """
        with self.stores.db.begin() as tx:
            restore_run(self.stores, self.scope, tx, any_run(tx, self.scope.project, run))

    def _load(self, connection: Connection, run: str) -> Run:
        return load_runs(connection, [any_run(connection, self.scope.project, run)])[0]

    def _experiment(self, connection: Connection, name: str) -> Experiment:
        found = find_experiment(connection, self.scope.project, name)
        if found is None:
            raise NotFound(
                f"there is no experiment {name[:60]!r} in project {self.scope.project!r}",
                next_step="loopwright runs experiments lists them",
            )
        return found
