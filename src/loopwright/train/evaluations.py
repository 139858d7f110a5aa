"""Evaluations kept with runs as Parquet: a model's outputs row by row, so that runs can be compared on shared rows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, NotFound
from loopwright.track import RunService
from loopwright.train.comparing import Evaluation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PATH = "evaluation/rows.parquet"
TASKS = ("binary", "multiclass", "regression")
_KEY, _TRUTH, _OUTPUT, _TASK = "key", "truth", "output", "task"


def make_evaluation(task: str, y: ArrayLike, output: ArrayLike, keys: ArrayLike | None) -> Evaluation:
    """An evaluation from columns.

    Raises:
        Invalid: an unknown task, lengths that differ, or keys that occur twice.
    """
    import numpy as np

    if task not in TASKS:
        raise Invalid(f"there is no task {task!r}", next_step=f"use one of {', '.join(TASKS)}")
    truth, values = np.asarray(y), np.asarray(output, dtype=np.float64)
    if task == "binary":
        truth = truth.astype(np.int64)
    names = np.arange(len(truth)) if keys is None else np.asarray(keys)
    if not len(truth) == len(values) == len(names):
        raise Invalid(f"an evaluation has {len(truth)} truths, {len(values)} outputs and {len(names)} keys")
    if len(np.unique(names)) != len(names):
        raise Invalid("a key of the evaluation occurs twice", next_step="give keys that name one row each")
    return Evaluation(task, names, truth, values)


def write_evaluation(runs: RunService, run: str, evaluation: Evaluation) -> None:
    """Keep an evaluation with a run."""
    import polars as pl

    columns = {_KEY: evaluation.keys, _TRUTH: evaluation.truth, _OUTPUT: evaluation.output}
    frame = pl.DataFrame(columns).with_columns(pl.lit(evaluation.task).alias(_TASK))
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    runs.log_artifact(run, buffer.getvalue(), PATH)


def read_evaluation(runs: RunService, run: str) -> Evaluation | None:
    """The evaluation that a run keeps, if it does."""
    import polars as pl

    try:
        data = runs.artifact(run, PATH)
    except NotFound:
        return None
    frame = pl.read_parquet(io.BytesIO(data))
    task: Any = frame[_TASK][0] if frame.height else "regression"
    return Evaluation(task, frame[_KEY].to_numpy(), frame[_TRUTH].to_numpy(), frame[_OUTPUT].to_numpy())
