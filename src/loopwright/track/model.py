"""The words of tracking: experiments, runs, metric points, artifacts."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

Value = float | Literal["NaN", "Infinity", "-Infinity"]
"""A metric's value on the wire, where JSON has no name for what is not finite. `float(value)` reads all of them."""


class RunStatus(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"


class Lifecycle(StrEnum):
    ACTIVE = "active"
    DELETED = "deleted"


class View(StrEnum):
    """Which runs or experiments a search looks at."""

    ACTIVE = "active"
    DELETED = "deleted"
    ALL = "all"


class Experiment(msgspec.Struct, frozen=True):
    """A named group of runs. `baseline` is the id of the pinned run, or empty."""

    id: str
    name: str
    created_at: datetime
    baseline: str = ""
    tags: dict[str, str] = {}
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    updated_at: datetime | None = None


class ExperimentPage(msgspec.Struct, frozen=True):
    """Experiments of one page; `next` asks for the page after it, and is empty on the last one."""

    experiments: list[Experiment]
    next: str = ""


class ExperimentCounts(msgspec.Struct, frozen=True):
    """How many runs of an experiment there are, by status, and when the newest of them began; deleted ones left out."""

    experiment_id: str
    by_status: dict[str, int]
    newest: datetime

    @property
    def runs(self) -> int:
        """How many there are in all."""
        return sum(self.by_status.values())


class RunInput(msgspec.Struct, frozen=True):
    """A pinned thing that a run read, such as `dataset:flights@12`, and the name that the run gave it.

    `dataset` is the dataset's name, by default that in the ref; `context` says what it was read for, such as
    `training`, by default `name`. A search asks for them as `dataset.name`, `dataset.context` and `dataset.digest`.
    """

    ref: str
    name: str = ""
    digest: str = ""
    dataset: str = ""
    context: str = ""


class Run(msgspec.Struct, frozen=True):
    """One run as it stands: the last value of each metric, all params and tags.

    A metric whose last value is not finite is in `not_finite` and not in `metrics`, so that a comparison with a
    number can never be answered by a NaN.
    """

    id: str
    experiment: str
    name: str
    status: RunStatus
    started_at: datetime
    ended_at: datetime | None = None
    actor: str = ""
    parent: str = ""
    kind: str = "run"
    error: str = ""
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}
    not_finite: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: tuple[RunInput, ...] = ()
    experiment_id: str = ""
    lifecycle: Lifecycle = Lifecycle.ACTIVE

    @property
    def ref(self) -> str:
        """`run:<id>`."""
        return f"run:{self.id}"

    @property
    def seconds(self) -> float | None:
        """How long the run took, once it has ended."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None


class RunPage(msgspec.Struct, frozen=True):
    """Runs of one page; `next` asks for the page after it, and is empty on the last one."""

    runs: list[Run]
    next: str = ""


class MetricPoint(msgspec.Struct, frozen=True):
    """One value of a metric. Without `at`, the workspace's clock is asked when the point is stored."""

    key: str
    value: Value
    step: int = 0
    at: datetime | None = None


class TimedPoint(msgspec.Struct, frozen=True, gc=False):
    """One value of a metric as it comes in bulk: already a float, with its time in Unix microseconds."""

    key: str
    value: float
    step: int
    at_us: int


class MetricHistory(msgspec.Struct, frozen=True):
    """Points of one metric of one run, in columns, by step, then time. Times are Unix microseconds.

    `next` asks for the page after this one, and is empty where there is none.
    """

    run: str
    key: str
    steps: list[int]
    times_us: list[int]
    values: list[Value]
    next: str = ""

    def floats(self) -> list[float]:
        """The values as floats, NaN and infinities included."""
        return [float(value) for value in self.values]


class Curve(msgspec.Struct, frozen=True):
    """One metric of one run in a bounded number of buckets, in columns; a bucket without points is left out.

    Each bucket has the points from `first_steps` to `steps`; `values` and `times_us` are those of its last point,
    `lows` and `highs` its extremes, at `low_steps` and `high_steps` (the first steps that have them). NaN is no
    extreme: it is counted in `nans`, and an extreme is NaN only where the bucket has no other value. A point that
    arrived twice may be counted twice in `counts` until it is packed.
    """

    run: str
    key: str
    first_steps: list[int]
    steps: list[int]
    times_us: list[int]
    values: list[Value]
    lows: list[Value]
    low_steps: list[int]
    highs: list[Value]
    high_steps: list[int]
    counts: list[int]
    nans: list[int]


class DatasetUse(msgspec.Struct, frozen=True):
    """A dataset that a run read, as its own library describes it: schema and profile are JSON texts, or empty."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    tags: dict[str, str] = {}


class DatasetSummary(msgspec.Struct, frozen=True):
    """A dataset that runs of an experiment read, and what for."""

    experiment_id: str
    name: str
    digest: str
    context: str = ""


class ModelUse(msgspec.Struct, frozen=True):
    """A logged model that a run read, or made at a step."""

    model: str
    step: int = 0


class RunContents(msgspec.Struct, frozen=True):
    """What hangs on a run beside its params and tags; `latest` has the last point of each metric."""

    run: str
    latest: list[MetricPoint] = []
    datasets: list[DatasetUse] = []
    models_read: list[ModelUse] = []
    models_made: list[ModelUse] = []


class WholeRun(msgspec.Struct, frozen=True):
    """A run with what hangs on it; `latest` has the last point of each metric, by key."""

    run: Run
    latest: list[TimedPoint] = []
    datasets: list[DatasetUse] = []
    models_read: list[ModelUse] = []
    models_made: list[ModelUse] = []


class Artifact(msgspec.Struct, frozen=True):
    """A file that a run keeps."""

    path: str
    digest: str
    size_bytes: int
    created_at: datetime


class Difference(msgspec.Struct, frozen=True):
    """What each of the compared runs has under one key, in the order of the runs; None where it has nothing."""

    key: str
    values: list[str | None]


class MetricInterval(msgspec.Struct, frozen=True):
    """The 95 % interval of a mean, or of a difference of means, over `n` folds or repeats; `method` names how."""

    estimate: float
    lower: float
    upper: float
    n: int
    method: str


class MetricDifference(msgspec.Struct, frozen=True):
    """The last value of one metric in each of the compared runs, or the mean of its folds or repeats.

    `delta` is against the baseline where it is one of the runs and has the metric, else against the first run that
    has it. `intervals` and `delta_intervals` are there for the runs that kept folds or repeats.
    """

    key: str
    values: list[float | None]
    delta: list[float | None]
    intervals: list[MetricInterval | None] = []
    delta_intervals: list[MetricInterval | None] = []


class BaselineDelta(msgspec.Struct, frozen=True):
    """A run's last values minus those of the baseline of its experiment; `baseline` is empty where none is pinned."""

    run: str
    baseline: str
    metrics: dict[str, float]


class RunComparison(msgspec.Struct, frozen=True):
    """Runs beside each other; only what differs, unless all was asked for. `baseline` is the id of the run among them
    that is the baseline of its experiment, if there is one."""

    runs: list[Run]
    params: list[Difference]
    metrics: list[MetricDifference]
    tags: list[Difference]
    inputs: list[Difference]
    baseline: str = ""
