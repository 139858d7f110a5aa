"""What this room keeps in the object store: captures of code and environment, values of steps, and what steps said."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Text, select, type_coerce

from loopwright.pipeline.tables import pipeline_runs, pipeline_steps, step_outputs
from loopwright.store import Doomed, Holding, Stores, of_run

_runs, _steps, _outputs = pipeline_runs.c, pipeline_steps.c, step_outputs.c

HOLDINGS = (
    Holding(
        "code, environment, inputs and outputs of pipeline runs",
        select(
            type_coerce(_runs.capture, Text),
            type_coerce(_runs.params, Text),
            type_coerce(_runs.inputs, Text),
            type_coerce(_runs.outputs, Text),
            of_run(_runs.run_id),
        ),
    ),
    Holding("values of pipeline steps", select(type_coerce(_steps.output, Text), of_run(_steps.run_id))),
    Holding(
        "outputs of steps kept for use again",
        select(type_coerce(_outputs.output, Text), _outputs.notes, of_run(_outputs.run_id)),
    ),
)


def forget_runs(_stores: Stores, tx: Connection, runs: Sequence[Doomed]) -> None:
    """Remove what the runs were asked to do, how their steps went, and the outputs that they left for use again."""
    ids = [run.id for run in runs]
    for table in (pipeline_runs, pipeline_steps, step_outputs):
        tx.execute(table.delete().where(table.c.run_id.in_(ids)))
