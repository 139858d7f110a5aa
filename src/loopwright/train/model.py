"""The words of training: searches, trials, comparisons with a baseline."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from loopwright.train.spaces import Space


class Direction(StrEnum):
    MAXIMISE = "maximise"
    MINIMISE = "minimise"


class Pruner(StrEnum):
    """Which trials are ended early.

    `median`: those below the median of the others at the same step. `halving`: all but the best part at growing steps
    (Jamieson & Talwalkar, AISTATS 2016). `hyperband`: several halvings at once (Li et al., JMLR 2018).
    """

    MEDIAN = "median"
    HALVING = "halving"
    HYPERBAND = "hyperband"
    NONE = "none"


class TrialState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"


class TrialRun(msgspec.Struct, frozen=True):
    """One trial of a search: a run of its own. `reports` are (step, value)."""

    number: int
    run_id: str
    state: TrialState
    params: dict[str, Any] = {}
    space: dict[str, Space] = {}
    value: float | None = None
    reports: tuple[tuple[int, float], ...] = ()
    error: str = ""


class SearchSpec(msgspec.Struct, frozen=True):
    """What a search was asked to do; one that goes on must be asked the same, but for the number of trials."""

    subject: str
    metric: str
    direction: Direction
    pruner: Pruner
    seed: int
    space: dict[str, Space] = {}
    params: dict[str, Any] = {}


class SearchResult(msgspec.Struct, frozen=True):
    """A search as it stands. `best_*` are those of the best finished trial, empty while there is none."""

    id: str
    metric: str
    direction: Direction
    best_value: float | None
    best_params: dict[str, Any]
    best_run: str
    trials: tuple[TrialRun, ...]


class Answer(StrEnum):
    """What a comparison says. `undecided` means that the evidence is not enough, not that the runs are equal."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


class MetricComparison(msgspec.Struct, frozen=True):
    """One metric of a run against the baseline's. `difference` is run minus baseline.

    The interval covers the true difference with probability `level`; `n` is what it rests on: rows or repeats, named
    by `unit`. Without repeats or rows there is no interval, and the answer is undecided.
    """

    metric: str
    run: float
    baseline: float
    difference: float
    answer: Answer
    lower: float | None = None
    upper: float | None = None
    level: float | None = None
    n: int = 0
    unit: str = ""
    method: str = ""


class BaselineComparison(msgspec.Struct, frozen=True):
    """A run against the pinned baseline of its experiment."""

    experiment: str
    run: str
    baseline: str
    metrics: list[MetricComparison]
