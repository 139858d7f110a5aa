"""What is kept of pipelines in the database: the run's record, its steps, and outputs by cache key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from loopwright.core import NotFound
from loopwright.pipeline.model import Capture, Made, PipelineRecord, StepRun, StepStatus, Stored
from loopwright.pipeline.tables import pipeline_runs, pipeline_steps, step_outputs
from loopwright.store import Stores


class Records:
    """The rows of one project's pipelines."""

    def __init__(self, stores: Stores, project: str) -> None:
        self._stores, self._db, self._project = stores, stores.db, project

    def begin(self, tx: Connection, record: PipelineRecord) -> None:
        """Keep what a run is about to do; a run that goes on keeps what it had."""
        row = {
            "run_id": record.run_id,
            "project": self._project,
            "pipeline": record.pipeline,
            "params": record.params,
            "inputs": record.inputs,
            "seed": record.seed,
            "capture": msgspec.to_builtins(record.capture),
            "outputs": {},
            "created_at": self._stores.clock.now(),
        }
        tx.execute(self._db.upsert(pipeline_runs, row, ["run_id"], ["capture"]))

    def find(self, run_id: str) -> PipelineRecord | None:
        """The record of a run, if a pipeline made it."""
        query = select(pipeline_runs).where(pipeline_runs.c.run_id == run_id, pipeline_runs.c.project == self._project)
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _record(row)

    def get(self, run_id: str) -> PipelineRecord:
        """The record of a run.

        Raises:
            NotFound: no pipeline made it.
        """
        found = self.find(run_id)
        if found is None:
            raise NotFound(f"run {run_id[:60]!r} was not made by a pipeline", next_step="loopwright runs search")
        return found

    def save_outputs(self, run_id: str, outputs: Mapping[str, Stored]) -> None:
        """Keep what a run hands out."""
        values = {"outputs": msgspec.to_builtins(dict(outputs))}
        with self._db.begin() as tx:
            tx.execute(update(pipeline_runs).where(pipeline_runs.c.run_id == run_id).values(values))

    def steps(self, run_id: str) -> dict[str, StepRun]:
        """The steps of a run by name, in the order of its graph."""
        query = (
            select(pipeline_steps)
            .where(pipeline_steps.c.run_id == run_id, pipeline_steps.c.project == self._project)
            .order_by(pipeline_steps.c.position)
        )
        with self._db.read() as connection:
            return {row.name: _step(row) for row in connection.execute(query)}

    def save_step(self, run_id: str, position: int, step: StepRun, function: str, notes: str = "") -> None:
        """Keep how a step stands; a finished one can from now on be used by others, in the same transaction.

        Args:
            notes: the digest of what it logged.
        """
        row = {
            "run_id": run_id,
            "name": step.name,
            "project": self._project,
            "position": position,
            "status": step.status.value,
            "key": step.key,
            "cached": step.cached,
            "origin": step.origin,
            "seconds": step.seconds,
            "attempts": step.attempts,
            "output": msgspec.to_builtins(step.output),
            "error": step.error,
        }
        changing = [name for name in row if name not in ("run_id", "name", "project")]
        with self._db.begin() as tx:
            tx.execute(self._db.upsert(pipeline_steps, row, ["run_id", "name"], changing))
            if step.status is StepStatus.FINISHED and not step.cached and step.output is not None:
                self._save_output(tx, step, Made(step.output, notes, run_id), function)

    def _save_output(self, tx: Connection, step: StepRun, made: Made, function: str) -> None:
        row = {
            "project": self._project,
            "key": step.key,
            "function": function,
            "run_id": made.run_id,
            "output": msgspec.to_builtins(made.output),
            "notes": made.notes,
            "seconds": step.seconds,
            "created_at": self._stores.clock.now(),
        }
        changing = ["run_id", "output", "notes", "seconds", "created_at"]
        tx.execute(self._db.upsert(step_outputs, row, ["project", "key"], changing))

    def find_output(self, key: str) -> Made | None:
        """What was made under this key, if it is whole in the object store."""
        columns = step_outputs.c
        query = select(columns.output, columns.notes, columns.run_id)
        with self._db.read() as connection:
            row = connection.execute(query.where(columns.project == self._project, columns.key == key)).one_or_none()
        if row is None:
            return None
        made = Made(msgspec.convert(row.output, Stored), row.notes, row.run_id)
        return made if self.is_whole(made.output) and self._has(made.notes) else None

    def _has(self, digest: str) -> bool:
        return not digest or self._stores.objects.exists(digest)

    def is_whole(self, stored: Stored) -> bool:
        """Whether every object of a stored value is there."""
        if stored.parts or stored.codec in ("list", "tuple", "dict"):
            return all(self.is_whole(part) for _, part in stored.parts)
        return self._stores.objects.exists(stored.digest)


def _record(row: Row[Any]) -> PipelineRecord:
    return PipelineRecord(
        run_id=row.run_id,
        pipeline=row.pipeline,
        params=row.params,
        inputs=row.inputs,
        seed=row.seed,
        capture=msgspec.convert(row.capture, Capture | None),
        outputs=msgspec.convert(row.outputs, dict[str, Stored]),
    )


def _step(row: Row[Any]) -> StepRun:
    return StepRun(
        name=row.name,
        status=StepStatus(row.status),
        cached=row.cached,
        seconds=row.seconds,
        key=row.key,
        output=msgspec.convert(row.output, Stored | None),
        origin=row.origin,
        attempts=row.attempts,
        error=row.error,
    )
