"""Gates judge intervals, not numbers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Invalid
from loopwright.release import (
    AnyGate,
    AtLeast,
    AtMost,
    Beats,
    Direction,
    GateEvidence,
    MaxLatency,
    MaxSize,
    Outcome,
    ParityProven,
    Slice,
    Slices,
    check_gate,
    judge,
)
from loopwright.release.gates import difference_of
from loopwright.stats import Interval

CANDIDATE, CHAMPION = "model:delay@2", "model:delay@1"
finite = st.floats(-10, 10)


def estimate(value: float, half: float, n: int = 1000, level: float = 0.95) -> Interval:
    return Interval(value, value - half, value + half, level, n, "test")


def compared(difference: Interval | None, note: str = "") -> GateEvidence:
    return GateEvidence(candidate=CANDIDATE, reference=CHAMPION, difference=difference, note=note)


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [
        (estimate(0.02, 0.01), Outcome.PASSED),
        (estimate(0.02, 0.03), Outcome.NOT_ENOUGH_EVIDENCE),
        (estimate(-0.02, 0.01), Outcome.FAILED),
        (estimate(0.0, 0.0), Outcome.FAILED),
    ],
)
def test_a_version_beats_another_only_when_the_whole_interval_says_so(difference: Interval, outcome: Outcome) -> None:
    assert judge(Beats("auc"), compared(difference)).outcome is outcome


def test_a_smaller_loss_is_a_gain() -> None:
    assert judge(Beats("log_loss"), compared(estimate(-0.02, 0.01))).outcome is Outcome.PASSED
    assert judge(Beats("log_loss"), compared(estimate(0.02, 0.01))).outcome is Outcome.FAILED


def test_a_negative_effect_allows_to_be_a_little_worse() -> None:
    assert judge(Beats("auc", min_effect=-0.01), compared(estimate(-0.002, 0.005))).outcome is Outcome.PASSED


def test_without_a_champion_there_is_nothing_to_beat() -> None:
    verdict = judge(Beats("auc"), GateEvidence(candidate=CANDIDATE))
    assert verdict.ok
    assert "no champion" in verdict.reason


def test_without_a_baseline_there_is_no_evidence() -> None:
    verdict = judge(Beats("auc", against="baseline"), GateEvidence(candidate=CANDIDATE, note="no baseline is pinned"))
    assert verdict.outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert verdict.reason == "no baseline is pinned"


def test_a_bare_number_is_not_evidence() -> None:
    bare = Interval(0.9, float("-inf"), float("inf"), 0.95, 0, "")
    assert judge(AtLeast("auc", 0.5), GateEvidence(candidate=CANDIDATE, metric=bare)).outcome is (
        Outcome.NOT_ENOUGH_EVIDENCE
    )


def test_an_interval_of_less_confidence_than_asked_is_not_enough() -> None:
    verdict = judge(AtLeast("auc", 0.5, alpha=0.01), GateEvidence(candidate=CANDIDATE, metric=estimate(0.9, 0.01)))
    assert verdict.outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert "asks for 99%" in verdict.reason


@given(value=finite, half=st.floats(0, 5), limit=finite)
def test_at_least_and_at_most_mirror_each_other(value: float, half: float, limit: float) -> None:
    there, back = estimate(value, half), estimate(-value, half)
    one = judge(AtLeast("auc", limit), GateEvidence(candidate=CANDIDATE, metric=there)).outcome
    other = judge(AtMost("auc", -limit), GateEvidence(candidate=CANDIDATE, metric=back)).outcome
    assert one is other


@given(value=finite, half=st.floats(0, 5), shrink=st.floats(0, 1), limit=finite)
def test_a_narrower_interval_never_overturns_a_verdict(value: float, half: float, shrink: float, limit: float) -> None:
    gate = AtLeast("auc", limit)
    wide = judge(gate, GateEvidence(candidate=CANDIDATE, metric=estimate(value, half))).outcome
    narrow = judge(gate, GateEvidence(candidate=CANDIDATE, metric=estimate(value, half * shrink))).outcome
    assert wide in (narrow, Outcome.NOT_ENOUGH_EVIDENCE)


@given(a=finite, b=finite, below=st.floats(0, 3), above=st.floats(0, 3))
def test_a_difference_of_intervals_is_antisymmetric_and_holds_its_value(
    a: float, b: float, below: float, above: float
) -> None:
    left = Interval(a, a - below, a + above, 0.95, 10, "")
    right = Interval(b, b - above, b + below, 0.95, 20, "")
    forth, back = difference_of(left, right), difference_of(right, left)
    assert forth.lower <= forth.estimate <= forth.upper
    assert (forth.lower, forth.upper) == pytest.approx((-back.upper, -back.lower))


def test_size_latency_and_parity() -> None:
    evidence = GateEvidence(
        candidate=CANDIDATE, size_bytes=1000, latency_ms=estimate(2.0, 0.5), parity_passed=True, parity_max_abs=1e-7
    )
    assert judge(MaxSize(1000), evidence).ok
    assert judge(MaxSize(999), evidence).outcome is Outcome.FAILED
    assert judge(MaxLatency(2.5), evidence).ok
    assert judge(MaxLatency(1.0), evidence).outcome is Outcome.FAILED
    assert judge(MaxLatency(2.0), evidence).outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert judge(ParityProven(), evidence).ok
    assert judge(ParityProven(), GateEvidence(candidate=CANDIDATE)).outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert judge(ParityProven(), GateEvidence(candidate=CANDIDATE, parity_passed=False)).outcome is Outcome.FAILED


def test_one_bad_slice_fails_the_version() -> None:
    good, bad = (Slice("origin", name, estimate(value, 0.01)) for name, value in (("JFK", 0.0), ("LGA", 0.05)))
    gate = Slices(("origin",), max_loss_increase=0.02)
    assert judge(gate, GateEvidence(candidate=CANDIDATE, reference=CHAMPION, slices=(good,))).ok
    verdict = judge(gate, GateEvidence(candidate=CANDIDATE, reference=CHAMPION, slices=(good, bad)))
    assert verdict.outcome is Outcome.FAILED
    assert "origin = LGA" in verdict.reason


def test_a_verdict_can_be_kept_in_an_event() -> None:
    told = judge(Beats("auc"), compared(estimate(0.02, 0.01))).statistics()
    assert told["outcome"] == "passed"
    assert told["gate"]["kind"] == "beats"
    assert told["difference"]["n"] == 1000
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


@pytest.mark.parametrize(
    ("gate", "where", "said"),
    [
        (Beats("zest"), "g.direction", "which way 'zest' is better"),
        (Beats("auc", against="gold/medal"), "g.against", "cannot name a model"),
        (Beats("auc", alpha=0.7), "g.alpha", "0.7 is not between"),
        (MaxLatency(-1), "g.milliseconds", "-1 is not above 0"),
        (MaxLatency(1, quantile=1.5), "g.quantile", "1.5 is not between"),
        (Slices(()), "g.columns", "no columns"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_by_field(gate: AnyGate, where: str, said: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_gate(gate, "g")
    assert raised.value.where == where
    assert said in str(raised.value)


def test_a_metric_of_ones_own_may_say_its_direction() -> None:
    gate = Beats("zest", direction=Direction.HIGHER)
    assert check_gate(gate, "g") is gate
    assert judge(gate, compared(estimate(0.02, 0.01))).ok
