"""A run of batch scoring as a window: its inputs and answers against what the model saw and gave in training.

It spans the time of the run, is complete when it is written, and is judged on the next pass, like any other window.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, select

from loopwright.monitor.declared import project_monitors
from loopwright.monitor.folding import OPEN
from loopwright.monitor.model import Monitor, Verdict
from loopwright.monitor.tables import monitor_windows
from loopwright.monitor.windows import VariantState, WindowState
from loopwright.stats import BinnedTable


class ScoredRows(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of batch scoring did. `counts` are its inputs and answers in the bins of training."""

    watched: str
    model: str
    start: datetime
    end: datetime
    rows: int
    bad_rows: int
    counts: bytes


def note(tx: Connection, project: str, scored: ScoredRows) -> None:
    """Write the window of a run, for each monitor that watches its job."""
    for info in project_monitors(tx, project):
        if info.monitor.endpoint == scored.watched:
            tx.execute(monitor_windows.insert().values(_row(tx, project, info.monitor, scored)))


def _row(tx: Connection, project: str, monitor: Monitor, scored: ScoredRows) -> dict[str, object]:
    state = WindowState({scored.model: _variant(monitor, scored)})
    start = _free(tx, project, monitor.name, scored.start)
    return {
        "project": project,
        "monitor": monitor.name,
        "start": start,
        "end": max(scored.end, start),
        "endpoint": monitor.endpoint,
        "stage": OPEN,
        "model": scored.model,
        "drift": Verdict.NOT_JUDGED,
        "performance": Verdict.NOT_JUDGED,
        "late_rows": 0,
        "late_labels": 0,
        "state": state.to_bytes(),
        "report": None,
    }


def _variant(monitor: Monitor, scored: ScoredRows) -> VariantState:
    counts, policy = BinnedTable.from_bytes(scored.counts), monitor.drift
    features = None
    if policy is not None:
        wanted = [name for name in counts.columns if not policy.features or name in policy.features]
        kept = {name: counts.columns[name] for name in wanted if name not in policy.ignore}
        features = BinnedTable(kept, counts.rows)
    variant = VariantState(shadow=False, features=features, scores=None)
    variant.rows, variant.errors = scored.rows, scored.bad_rows
    return variant


def _free(tx: Connection, project: str, monitor: str, start: datetime) -> datetime:
    """The first microsecond from `start` on at which no window of the monitor begins."""
    table = monitor_windows
    query = select(table.c.start).where(table.c.project == project, table.c.monitor == monitor, table.c.start >= start)
    taken = set(tx.execute(query).scalars())
    while start in taken:
        start += timedelta(microseconds=1)
    return start
