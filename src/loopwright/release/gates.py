"""Gates: what a version must show before it may take traffic. Pure: evidence in, verdict out.

A gate compares an interval with a limit, never a bare number: where the interval holds the limit, or where there is no
interval at all, the verdict is "not enough evidence", which does not pass.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from loopwright.stats import Interval

HIGHER_IS_BETTER = frozenset(
    {"auc", "roc_auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "r2", "mcc"}
)
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "loss", "ece", "mae", "mse", "rmse", "mape", "error_rate"})


class Direction(StrEnum):
    """Which way a metric is better."""

    HIGHER = "higher"
    LOWER = "lower"
    KNOWN = "known"


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of the gates; `kind` says which one it is."""


class Beats(Gate, frozen=True, tag="beats"):
    """The version is better than another by at least `min_effect`; a negative `min_effect` allows it to be that much
    worse.

    `against` is `champion` (the endpoint's stable version), `baseline` (the run that is pinned in the experiment), or a
    model ref. Without a champion there is nothing to beat, and the gate passes.
    """

    metric: str
    against: str = "champion"
    min_effect: float = 0.0
    alpha: float = 0.05
    direction: Direction = Direction.KNOWN


class AtLeast(Gate, frozen=True, tag="at_least"):
    """The metric's whole interval lies at or above `value`."""

    metric: str
    value: float
    alpha: float = 0.05


class AtMost(Gate, frozen=True, tag="at_most"):
    """The metric's whole interval lies at or below `value`."""

    metric: str
    value: float
    alpha: float = 0.05


class MaxLatency(Gate, frozen=True, tag="max_latency"):
    """One row is predicted within `milliseconds` at the given quantile, on the machine that judges."""

    milliseconds: float
    quantile: float = 0.95
    alpha: float = 0.05


class MaxSize(Gate, frozen=True, tag="max_size"):
    """The bundle is no larger than `size_bytes`."""

    size_bytes: int


class ParityProven(Gate, frozen=True, tag="parity"):
    """The bundle answers as the original model did on sample rows."""


class Slices(Gate, frozen=True, tag="slices"):
    """In no slice of the hold-out is the loss certainly more than `max_loss_increase` above the other version's.

    Slices are the values of `columns` with at least `min_rows` rows; `alpha` is shared among them (Bonferroni).
    """

    columns: tuple[str, ...]
    against: str = "champion"
    max_loss_increase: float = 0.02
    min_rows: int = 200
    alpha: float = 0.05


AnyGate = Beats | AtLeast | AtMost | MaxLatency | MaxSize | ParityProven | Slices


class Slice(msgspec.Struct, frozen=True):
    """A slice of the hold-out and the difference of mean losses in it, candidate minus reference."""

    column: str
    value: str
    difference: Interval


class GateEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known for one gate. What could not be had is None, and `note` says why."""

    candidate: str
    reference: str = ""
    metric: Interval | None = None
    difference: Interval | None = None
    latency_ms: Interval | None = None
    size_bytes: int | None = None
    parity_passed: bool | None = None
    parity_max_abs: float | None = None
    slices: tuple[Slice, ...] = ()
    holdout: str = ""
    note: str = ""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


class GateVerdict(msgspec.Struct, frozen=True):
    """What a gate said of a version, why, and on which numbers."""

    passed: ClassVar[Outcome] = Outcome.PASSED
    gate: AnyGate
    outcome: Outcome
    reason: str
    evidence: GateEvidence

    @property
    def ok(self) -> bool:
        """Whether the version may pass."""
        return self.outcome is Outcome.PASSED

    def statistics(self) -> dict[str, Any]:
        """All of it as plain values, for an event."""
        return {
            "gate": msgspec.to_builtins(self.gate),
            "outcome": self.outcome.value,
            "reason": self.reason,
            **{
                name: value for name, value in msgspec.to_builtins(self.evidence).items() if value not in (None, "", ())
            },
        }


def direction_of(gate: Beats) -> Direction | None:
    """Which way the gate's metric is better: as declared, else as known for its name; None if nobody knows."""
    if gate.direction is not Direction.KNOWN:
        return gate.direction
    if gate.metric in HIGHER_IS_BETTER:
        return Direction.HIGHER
    return Direction.LOWER if gate.metric in LOWER_IS_BETTER else None


def difference_of(a: Interval, b: Interval) -> Interval:
    """The interval of `a - b` from the intervals of two independent estimates.

    MOVER, the method of variance estimates recovery (Zou and Donner, Statistics in Medicine, 2008): it needs no
    symmetry of the given intervals.
    """
    gap = a.estimate - b.estimate
    below = math.hypot(a.estimate - a.lower, b.upper - b.estimate)
    above = math.hypot(a.upper - a.estimate, b.estimate - b.lower)
    return Interval(
        gap,
        gap - below,
        gap + above,
        min(a.level, b.level),
        min(a.n, b.n),
        "mover",
    )


def judge(gate: AnyGate, evidence: GateEvidence) -> GateVerdict:
    """What a gate says of the evidence."""
    match gate:
        case Beats():
            outcome, reason = _judge_beats(gate, evidence)
        case AtLeast():
            outcome, reason = _judge_bound(gate.metric, evidence.metric, gate.value, gate.alpha, evidence.note, 1)
        case AtMost():
            outcome, reason = _judge_bound(gate.metric, evidence.metric, gate.value, gate.alpha, evidence.note, -1)
        case MaxLatency():
            name = f"latency in ms at the quantile {gate.quantile:g}"
            outcome, reason = _judge_bound(name, evidence.latency_ms, gate.milliseconds, gate.alpha, evidence.note, -1)
        case MaxSize():
            outcome, reason = _judge_size(gate, evidence)
        case ParityProven():
            outcome, reason = _judge_parity(evidence)
        case Slices():
            outcome, reason = _judge_slices(gate, evidence)
    return GateVerdict(gate, outcome, reason, evidence)


def _judge_beats(gate: Beats, evidence: GateEvidence) -> tuple[Outcome, str]:
    if not evidence.reference and gate.against == "champion":
        return Outcome.PASSED, "the endpoint has no champion yet: there is nothing to beat"
    difference = evidence.difference
    if difference is None:
        return Outcome.NOT_ENOUGH_EVIDENCE, evidence.note or f"no comparison of {gate.metric} could be made"
    better_by = difference
    if direction_of(gate) is not Direction.HIGHER:
        better_by = Interval(
            -difference.estimate,
            -difference.upper,
            -difference.lower,
            difference.level,
            difference.n,
            difference.method,
        )
    name = f"the gain in {gate.metric} over {evidence.reference or gate.against}"
    outcome, reason = _judge_bound(name, better_by, gate.min_effect, gate.alpha, evidence.note, 1)
    if outcome is Outcome.PASSED and better_by.lower <= gate.min_effect:
        return Outcome.FAILED, f"{reason}; more than that is needed to beat it"
    return outcome, reason


def _judge_bound(
    name: str, estimate: Interval | None, limit: float, alpha: float, note: str, sign: int
) -> tuple[Outcome, str]:
    """Compare an interval with a limit; `sign` is 1 where large values are good, -1 where small ones are."""
    if estimate is None:
        return Outcome.NOT_ENOUGH_EVIDENCE, note or f"{name} was not measured"
    shown = (
        f"{name} is {estimate.estimate:.4g}, {estimate.level:.0%} interval "
        f"{estimate.lower:.4g} to {estimate.upper:.4g} (n {estimate.n})"
    )
    if not all(map(math.isfinite, (estimate.estimate, estimate.lower, estimate.upper))):
        return Outcome.NOT_ENOUGH_EVIDENCE, f"{shown}: not a finite interval"
    if estimate.level < 1 - alpha - 1e-9:
        return Outcome.NOT_ENOUGH_EVIDENCE, f"{shown}: the gate asks for {1 - alpha:.0%}"
    side = "least" if sign > 0 else "most"
    lowest, highest = sorted((sign * estimate.lower, sign * estimate.upper))
    if lowest >= sign * limit:
        return Outcome.PASSED, f"{shown}; at {side} {limit:.4g} is asked"
    if highest < sign * limit:
        return Outcome.FAILED, f"{shown}; at {side} {limit:.4g} is asked"
    return Outcome.NOT_ENOUGH_EVIDENCE, f"{shown}; the interval holds the limit {limit:.4g}"


def _judge_size(gate: MaxSize, evidence: GateEvidence) -> tuple[Outcome, str]:
    if evidence.size_bytes is None:
        return Outcome.NOT_ENOUGH_EVIDENCE, evidence.note or "the bundle's size is not known"
    shown = f"the bundle has {evidence.size_bytes} bytes; at most {gate.size_bytes} are allowed"
    return (Outcome.PASSED if evidence.size_bytes <= gate.size_bytes else Outcome.FAILED), shown


def _judge_parity(evidence: GateEvidence) -> tuple[Outcome, str]:
    if evidence.parity_passed is None:
        return Outcome.NOT_ENOUGH_EVIDENCE, evidence.note or "the bundle carries no parity proof"
    worst = "" if evidence.parity_max_abs is None else f" (largest difference {evidence.parity_max_abs:.3g})"
    if evidence.parity_passed:
        return Outcome.PASSED, f"the bundle answers as the original did{worst}"
    return Outcome.FAILED, f"the bundle does not answer as the original did{worst}"


def _judge_slices(gate: Slices, evidence: GateEvidence) -> tuple[Outcome, str]:
    if not evidence.reference and gate.against == "champion":
        return Outcome.PASSED, "the endpoint has no champion yet: there is nothing to compare slices with"
    if not evidence.slices:
        return Outcome.NOT_ENOUGH_EVIDENCE, evidence.note or f"no slice has {gate.min_rows} rows"
    worst = max(evidence.slices, key=lambda item: item.difference.lower)
    shown = (
        f"the worst of {len(evidence.slices)} slices is {worst.column} = {worst.value}: "
        f"loss {worst.difference.estimate:+.4g}, interval {worst.difference.lower:.4g} to "
        f"{worst.difference.upper:.4g} (n {worst.difference.n}); "
        f"at most {gate.max_loss_increase:.4g} more is allowed"
    )
    return (Outcome.FAILED if worst.difference.lower > gate.max_loss_increase else Outcome.PASSED), shown
