"""The operations that set runs beside each other, and beside the baseline of their experiment."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from loopwright.core import Conflict, Invalid, operation
from loopwright.track.comparing import RepeatsOfRun, compare_runs, delta_to_baseline
from loopwright.track.life import RunLife
from loopwright.track.measures import RunMetrics
from loopwright.track.model import BaselineDelta, Experiment, Run, RunComparison, RunStatus
from loopwright.track.reading import any_run, load_runs, the_run
from loopwright.track.repeats import named_repeats, repeats_of_parts, stepped, tagged_metrics
from loopwright.track.tables import experiments, runs

_MAX_COMPARED = 100
_MAX_PARTS = 2000


class RunComparisons(RunMetrics, RunLife):
    """Comparison of runs."""

    @operation("runs.compare", permission="runs:read")
    def compare(self, runs: list[str], everything: bool = False) -> RunComparison:
        """Runs beside each other, in the given order; only what differs unless `everything` is asked for.

        Differences of metrics are against the baseline of the first run's experiment if it is among the runs, else
        against the first run. They have intervals where folds or repeats were kept; see `loopwright.track.repeats`.

        Raises:
            NotFound: one of the runs is not there.
            Invalid: fewer than two runs, or more than 100.
        """
        if not 2 <= len(runs) <= _MAX_COMPARED:
            raise Invalid(f"{len(runs)} runs cannot be compared", next_step=f"give 2 to {_MAX_COMPARED}")
        with self.stores.db.read() as connection:
            found = load_runs(connection, [any_run(connection, self.scope.project, run) for run in runs])
            parts = _parts(connection, found)
            baseline = _baselines(connection, found[:1]).get(found[0].experiment_id)
        repeats = {run.id: self._repeats(run, parts.get(run.id, [])) for run in found}
        return compare_runs(found, everything, repeats, baseline.id if baseline else "")

    @operation("runs.against_baseline", permission="runs:read")
    def against_baseline(self, runs: list[str]) -> list[BaselineDelta]:
        """The last values of each run minus those of the baseline of its experiment, in the order of the runs.

        Raises:
            NotFound: one of the runs is not there.
        """
        with self.stores.db.read() as connection:
            found = load_runs(connection, [any_run(connection, self.scope.project, run) for run in runs])
            baselines = _baselines(connection, found)
        return [delta_to_baseline(run, baselines.get(run.experiment_id)) for run in found]

    @operation("runs.pin_baseline", permission="runs:write", effect="write")
    def pin_baseline(self, experiment: str, run: str) -> Experiment:
        """Make a finished run the one that others of the experiment are compared with.

        Raises:
            NotFound: there is no such experiment or run.
            Conflict: the run has not finished.
            Invalid: the run belongs to another experiment.
        """
        with self.stores.db.begin() as tx:
            found, row = self._experiment(tx, experiment), the_run(tx, self.scope.project, run)
            if row.experiment_id != found.id:
                raise Invalid(f"run {row.id} does not belong to the experiment {experiment!r}")
            if row.status != RunStatus.FINISHED:
                raise Conflict(f"run {row.id} is {row.status}", next_step="pin a run that has finished")
            tx.execute(update(experiments).where(experiments.c.id == found.id).values(baseline=row.id))
            evidence = {"run": row.id, "before": found.baseline}
            self.stores.events.append(
                tx, "baseline.pinned", f"run:{row.id}", self.scope, {"experiment": experiment, **evidence}
            )
            return self._experiment(tx, experiment)

    @operation("runs.baseline", permission="runs:read")
    def baseline(self, experiment: str) -> Run | None:
        """The pinned run of an experiment, if one is pinned.

        Raises:
            NotFound: there is no such experiment.
        """
        with self.stores.db.read() as connection:
            found = self._experiment(connection, experiment)
            return self._load(connection, found.baseline) if found.baseline else None

    def _repeats(self, run: Run, parts: Sequence[Run]) -> RepeatsOfRun:
        histories = {key: self.history(run.id, key) for key in tagged_metrics(run)}
        by_step = {key: stepped(found.steps, found.floats()) for key, found in histories.items()}
        return {**repeats_of_parts(parts), **by_step, **named_repeats(run.metrics)}


def _parts(connection: Connection, found: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs that are parts of these, by the id of the whole."""
    query = select(runs).where(runs.c.parent.in_([run.id for run in found]), runs.c.deleted_at.is_(None))
    parts: dict[str, list[Run]] = {}
    for part in load_runs(connection, connection.execute(query.order_by(runs.c.seq).limit(_MAX_PARTS)).all()):
        parts.setdefault(part.parent, []).append(part)
    return parts


def _baselines(connection: Connection, found: Sequence[Run]) -> dict[str, Run]:
    """The baselines of the runs' experiments, by the experiment's id."""
    ids = sorted({run.experiment_id for run in found})
    query = select(runs).join(experiments, experiments.c.baseline == runs.c.id).where(experiments.c.id.in_(ids))
    return {run.experiment_id: run for run in load_runs(connection, connection.execute(query).all())}
