"""What this room leaves behind when runs are removed: nothing. It keeps no objects of its own."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from loopwright.store import Doomed, Holding, Stores
from loopwright.train.tables import search_trials

HOLDINGS: tuple[Holding, ...] = ()


def forget_runs(_stores: Stores, tx: Connection, runs: Sequence[Doomed]) -> None:
    """Remove the trials that the runs were."""
    tx.execute(search_trials.delete().where(search_trials.c.run_id.in_([run.id for run in runs])))
