"""What this room keeps in the object store: files of runs, of logged models and of traces, and parts of uploads."""

from __future__ import annotations

from sqlalchemy import func, select

from loopwright.store import Holding, of_ref, of_run
from loopwright.track.collecting import (
    expire,
    expire_experiments,
    forget_experiments,
    forget_runs,
    running_since,
    still_deleted,
)
from loopwright.track.files.tables import kept_files, upload_parts
from loopwright.track.logged.collecting import forget_lapsed, lapse
from loopwright.track.logged.tables import logged_models
from loopwright.track.tables import run_artifacts, runs
from loopwright.track.traces.tables import traces

__all__ = [
    "HOLDINGS",
    "expire",
    "expire_experiments",
    "forget_experiments",
    "forget_lapsed",
    "forget_runs",
    "lapse",
    "running_since",
    "still_deleted",
]

HOLDINGS = (
    Holding(
        "files of runs",
        select(run_artifacts.c.digest, of_run(runs.c.id)).join(runs, runs.c.seq == run_artifacts.c.run_seq),
        trees=False,
    ),
    Holding(
        "files of logged models and traces",
        select(
            kept_files.c.digest,
            of_run(func.coalesce(logged_models.c.source_run, traces.c.run)),
            of_ref(logged_models.c.project, "logged_model:" + logged_models.c.id),
        )
        .outerjoin(logged_models, "model:" + logged_models.c.id == kept_files.c.owner)
        .outerjoin(traces, "trace:" + traces.c.id == kept_files.c.owner),
        trees=False,
    ),
    Holding("parts of uploads that are under way", select(upload_parts.c.digest), trees=False),
)
