"""The words of scoring jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from loopwright.loop.model import AnyTrigger, Manual
from loopwright.monitor import DriftPolicy


class ScoringJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows → model → answers, whenever a trigger fires; declared once.

    Attributes:
        model: `model:NAME`, `model:NAME@3`, `model:NAME@champion` or `endpoint:NAME` (its stable version then).
        input: `dataset:NAME`, or `table:PATH`, a Delta table in the project's folder; the newest version of it.
        output: `dataset:NAME` or `table:PATH`. Answers replace what is there; with `new_rows` they are appended.
        triggers: as those of loops.
        new_rows: only rows that were added since the last run that finished. Where the rows before were replaced, all
            are scored, and the answers are replaced.
        keep, prefix, skip_bad: as those of `loopwright predict`.
        drift: when inputs and answers count as drifted from the model's training; None for no monitor.
        owner: who is asked to act on an alert.
        attempts: how often a run is begun that fails for want of space, memory or an answer.
        timeout_s: after which an attempt is ended.
    """

    name: str
    model: str
    input: str
    output: str
    triggers: tuple[AnyTrigger, ...] = (Manual(),)
    new_rows: bool = False
    keep: tuple[str, ...] = ("others",)
    prefix: str = ""
    skip_bad: bool = False
    drift: DriftPolicy | None = DriftPolicy(consecutive=1)
    owner: str = ""
    attempts: int = 2
    timeout_s: float = 86_400.0


class ScoringState(StrEnum):
    """Where a run of a job stands. A run only ever moves down this list."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class ScoringRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a job: `model`, `source` and `made` are versions. Its id is that of the run in the experiment
    `scoring`, if there were rows to score.

    `spec` is the job as it was declared when the run began to wait; `since` the version of the input up to which rows
    were scored before, where only new ones are. `revision` grows by one with each transition.
    """

    id: str
    project: str
    job: str
    spec: ScoringJob
    state: ScoringState
    trigger: str
    cause: str
    model: str = ""
    source: str = ""
    since: int | None = None
    append: bool = False
    made: str = ""
    rows: int = 0
    bad_rows: int = 0
    reason: str = ""
    attempt: int = 0
    created_at: datetime
    updated_at: datetime
    revision: int = 0

    @property
    def ref(self) -> str:
        return f"run:{self.id}"


class ScoringJobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A declared job. `scored_to` is the version of its input up to which rows are scored; `watched_as` what its
    windows and alerts name in place of an endpoint."""

    job: ScoringJob
    project: str
    revision: int
    declared_at: datetime
    declared_by: str
    last_triggered_at: datetime | None = None
    scored_to: str = ""

    @property
    def watched_as(self) -> str:
        return watched_name(self.project, self.job.name)


def watched_name(project: str, job: str) -> str:
    """What a job's windows and alerts name in place of an endpoint: one name in the whole workspace."""
    return f"scoring.{job}" if project == "default" else f"scoring.{project}.{job}"
