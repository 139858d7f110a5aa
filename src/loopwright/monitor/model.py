"""The words of this room: monitors, windows, alerts, feedback, and what predictions leave behind."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from loopwright.stats import Interval, Sufficient
from loopwright.store import Edge, Node

DAY_S = 86_400.0
Value = str | int | float | bool | None


class Feedback(msgspec.Struct, frozen=True):
    """The truth about one prediction, or an opinion of it, that came later.

    `at` is when it became known; by default the workspace's time on receipt. A later value for the same prediction
    replaces the earlier one.
    """

    prediction_id: str
    value: str | int | float | bool
    at: datetime | None = None


class FeedbackReceipt(msgspec.Struct, frozen=True):
    """How many rows are on the disk now."""

    accepted: int


class DriftPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When inputs count as drifted from the training profile.

    A feature has drifted when its p-value, adjusted for all features tested (Benjamini-Hochberg), is at most `alpha`
    and its population stability index is at least `min_effect`. An alert opens after `consecutive` windows in which at
    least `min_features` have. Windows with fewer than `min_rows` rows say nothing.
    """

    features: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    alpha: float = 0.01
    min_effect: float = 0.2
    min_rows: int = 300
    min_features: int = 1
    consecutive: int = 2


class PerformancePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a model counts as degraded.

    It has when the whole interval (level 1 - `alpha`) of `metric` lies beyond `limit`, or, without a limit, more than
    `max_drop` beyond the version's own metric of that name from training. An alert opens after `consecutive` windows.
    Windows with fewer than `min_labels` labels say nothing. Without `metric`, the task's own is taken: brier for
    classifiers, mae for regressions.
    """

    metric: str = ""
    max_drop: float = 0.05
    limit: float | None = None
    min_labels: int = 200
    alpha: float = 0.05
    consecutive: int = 2


class Monitor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A watch over an endpoint, in windows of event time.

    A window's drift is judged `lateness_s` after its end, its performance `label_delay_s` after that. Setting `drift`
    or `performance` to None leaves that part out. `owner` is who is asked to act on its alerts.
    """

    name: str
    endpoint: str
    window_s: float = DAY_S
    lateness_s: float = 0.0
    label_delay_s: float = DAY_S
    drift: DriftPolicy | None = DriftPolicy()
    performance: PerformancePolicy | None = PerformancePolicy()
    owner: str = ""
    description: str = ""


class MonitorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A declared monitor."""

    monitor: Monitor
    project: str
    revision: int
    applied_at: datetime
    applied_by: str


class Verdict(StrEnum):
    """What a window says of one question."""

    FINE = "fine"
    BAD = "bad"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"
    NOT_JUDGED = "not_judged"


class FeatureDrift(msgspec.Struct, frozen=True):
    """One feature of a window against the training profile. `effect` is the population stability index."""

    feature: str
    test: str
    statistic: float
    p_value: float
    adjusted: float
    effect: float
    drifted: bool
    n_reference: int
    n_current: int
    nulls_reference: float
    nulls_current: float


class MetricReport(msgspec.Struct, frozen=True):
    """A metric of a window with its interval, and the version's own from training where there is one."""

    value: float
    lower: float
    upper: float
    n: int
    reference: float | None = None


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one model version did in a window. Latencies in milliseconds, of whole requests; 0 where there were
    none, as in batch scoring."""

    model: str
    shadow: bool
    rows: int
    errors: int
    labels: int
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    metrics: dict[str, Interval]


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """A window of a monitor, [start, end) in event time.

    `model` is the version that answered most rows; drift and performance are its. `metric` is the one that was judged,
    and comes first. Rows and labels that came after they could be judged are counted as late and take no part.
    """

    monitor: str
    endpoint: str
    start: datetime
    end: datetime
    rows: int
    labels: int
    late_rows: int
    late_labels: int
    model: str
    drift_verdict: Verdict
    drift_reason: str
    drift: list[FeatureDrift]
    performance_verdict: Verdict
    performance_reason: str
    metric: str
    performance: dict[str, MetricReport]
    by_variant: list[VariantReport]


class AlertState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A state of an endpoint that somebody should act on.

    `about` is `drift` or `performance`; `since` is the start of the first window of the bad streak. `evidence` says
    the statistic, its threshold and n; `event` is the event that opened it.
    """

    id: str
    project: str
    monitor: str
    endpoint: str
    model: str
    about: str
    state: AlertState
    summary: str
    since: datetime
    opened_at: datetime
    closed_at: datetime | None
    closed_reason: str
    owner: str
    evidence: dict[str, Any]
    event: str

    @property
    def ref(self) -> str:
        return f"alert:{self.id}"


class ArmSpan(msgspec.Struct, frozen=True):
    """What one version showed of the predictions in [start, end): losses in [0, 1] of joined labels, requests with how
    many failed, latencies in milliseconds."""

    start: datetime
    end: datetime
    losses: Sufficient = Sufficient()
    requests: Sufficient = Sufficient()
    latency_ms: Sufficient = Sufficient()


class ArmEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of an endpoint showed since a moment: in all, and span by span, oldest first."""

    model: str
    since: datetime
    losses: Sufficient
    requests: Sufficient
    latency_ms: Sufficient
    spans: list[ArmSpan]


class PredictionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction: what was asked, what was answered by which version, and the truth if it came."""

    id: str
    ref: str
    endpoint: str
    model: str
    variant: str
    shadow: bool
    status: str
    key: str
    event_time: datetime
    received_at: datetime
    latency_ms: float
    features: dict[str, Value]
    outputs: dict[str, Any]
    label: Value = None
    labelled_at: datetime | None = None


class PredictionSummary(msgspec.Struct, frozen=True):
    """One line of a list of predictions."""

    id: str
    endpoint: str
    model: str
    event_time: datetime
    label: Value = None


class PredictionUse(msgspec.Struct, frozen=True):
    """How much one model version predicted on one endpoint: how many rows, from when to when in event time."""

    model: str
    endpoint: str
    rows: int
    first: datetime
    last: datetime


class TraceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a walk over lineage and predictions reached, nearest first.

    Upwards from a prediction, `prediction` holds its record. Downwards, `uses` counts the predictions of each model
    version that was reached, and the newest few of them are among the nodes.
    """

    root: str
    direction: str
    nodes: list[Node]
    edges: list[Edge]
    truncated: bool = False
    prediction: PredictionRecord | None = None
    uses: list[PredictionUse] = []
