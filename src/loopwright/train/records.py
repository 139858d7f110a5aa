"""What is kept of searches in the database."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, delete, select

from loopwright.core import Conflict, NotFound
from loopwright.store import Stores
from loopwright.train.model import SearchSpec, TrialRun, TrialState
from loopwright.train.tables import search_trials, searches


class Records:
    """The searches of one project."""

    def __init__(self, stores: Stores, project: str) -> None:
        self._stores, self._db, self._project = stores, stores.db, project

    def begin(self, search_id: str, spec: SearchSpec) -> None:
        """Keep what a search is to do.

        Raises:
            Conflict: the search is there already, and was asked something else.
        """
        row = {
            "id": search_id,
            "project": self._project,
            "spec": msgspec.to_builtins(spec),
            "created_at": self._stores.clock.now(),
        }
        with self._db.begin() as tx:
            tx.execute(self._db.upsert(searches, row, ["id"]))
        if self.spec(search_id) != msgspec.convert(row["spec"], SearchSpec):
            raise Conflict(f"search {search_id} was asked something else when it began", next_step="start a new search")

    def spec(self, search_id: str) -> SearchSpec:
        """What a search was asked to do.

        Raises:
            NotFound: there is no such search.
        """
        query = select(searches.c.spec).where(searches.c.id == search_id, searches.c.project == self._project)
        with self._db.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        if found is None:
            raise NotFound(f"there is no search {search_id[:60]!r} in project {self._project!r}")
        return msgspec.convert(found, SearchSpec)

    def trials(self, search_id: str) -> list[TrialRun]:
        """The trials of a search, by number."""
        query = (
            select(search_trials)
            .where(search_trials.c.search_id == search_id, search_trials.c.project == self._project)
            .order_by(search_trials.c.number)
        )
        with self._db.read() as connection:
            return [_trial(row) for row in connection.execute(query)]

    def save(self, search_id: str, trial: TrialRun) -> None:
        """Keep how a trial stands."""
        row = {
            "search_id": search_id,
            "number": trial.number,
            "project": self._project,
            "run_id": trial.run_id,
            "state": trial.state.value,
            "params": trial.params,
            "space": msgspec.to_builtins(trial.space),
            "value": trial.value,
            "reports": [list(report) for report in trial.reports],
            "error": trial.error,
        }
        changing = ["run_id", "state", "params", "space", "value", "reports", "error"]
        with self._db.begin() as tx:
            tx.execute(self._db.upsert(search_trials, row, ["search_id", "number"], changing))

    def forget_unfinished(self, search_id: str) -> list[TrialRun]:
        """Remove trials that were under way when their process ended; they are tried again."""
        unfinished = [trial for trial in self.trials(search_id) if trial.state is TrialState.RUNNING]
        columns = search_trials.c
        with self._db.begin() as tx:
            tx.execute(
                delete(search_trials).where(columns.search_id == search_id, columns.state == TrialState.RUNNING.value)
            )
        return unfinished


def _trial(row: Row[Any]) -> TrialRun:
    values = {name: getattr(row, name) for name in TrialRun.__struct_fields__}
    return msgspec.convert(values, TrialRun)
