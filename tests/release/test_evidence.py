"""Gates judged on real versions, scored on real rows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.release.world import World, bundle_of, make_rows

from loopwright.release import (
    AtLeast,
    AtMost,
    Beats,
    GateJudge,
    GateVerdict,
    MaxLatency,
    MaxSize,
    Outcome,
    ParityProven,
    Slices,
)
from loopwright.release.evidence import quantile_interval
from loopwright.release.gates import AnyGate
from loopwright.release.recorded import recorded_interval

HOLDOUT = "dataset:holdout@1"


@pytest.fixture
def judged(small_world: World) -> World:
    """A weak, a strong and a broken version of `delay`, versions 1 to 3, and a hold-out."""
    small_world.datasets.ingest("holdout", make_rows(4000, seed=2))
    for kind in ("weak", "strong", "broken"):
        small_world.register(kind)
    return small_world


def verdict_on(
    world: World, gate: AnyGate, candidate: str, champion: str = "model:delay@1", holdout: str = HOLDOUT
) -> GateVerdict:
    judge = GateJudge(world.models, world.datasets, world.runs, candidate=candidate, champion=champion, holdout=holdout)
    return judge.judge([gate])[0]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier", "accuracy", "f1"])
def test_a_better_version_beats_the_champion_and_a_broken_one_does_not(judged: World, metric: str) -> None:
    good = verdict_on(judged, Beats(metric), "model:delay@2")
    assert good.outcome is Outcome.PASSED, good.reason
    assert good.evidence.difference is not None
    assert good.evidence.difference.n == 4000
    assert verdict_on(judged, Beats(metric), "model:delay@3").outcome is Outcome.FAILED


def test_the_tag_of_a_version_names_its_holdout(judged: World) -> None:
    tagged = judged.models.register("delay", bundle_of("strong"), run="", tags={"holdout": HOLDOUT, "kind": "again"})
    tagged = judged.models.annotate(tagged.ref, tags={"holdout": HOLDOUT})
    assert verdict_on(judged, Beats("auc"), tagged.ref, holdout="").evidence.holdout == HOLDOUT


def test_without_a_holdout_recorded_intervals_are_compared(judged: World) -> None:
    metrics = {"auc": 0.85, "auc_lower": 0.84, "auc_upper": 0.86, "rows": 900}
    run = judged.runs.start(experiment="delay")
    first = judged.models.register("delay", bundle_of("strong"), run=run.id, metrics=metrics)
    other = judged.runs.start(experiment="delay")
    lower = {"auc": 0.80, "auc_lower": 0.79, "auc_upper": 0.81, "rows": 800}
    second = judged.models.register("delay", bundle_of("weak"), run=other.id, metrics=lower)
    assert verdict_on(judged, Beats("auc"), first.ref, second.ref, "").outcome is Outcome.PASSED
    assert verdict_on(judged, Beats("auc"), second.ref, first.ref, "").outcome is Outcome.FAILED
    close = verdict_on(judged, Beats("auc", min_effect=0.045), first.ref, second.ref, "")
    assert close.outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert close.evidence.difference is not None
    assert close.evidence.difference.n == 800


def test_the_pinned_baseline_is_beaten_by_its_recorded_interval(judged: World) -> None:
    with judged.runs.active(experiment="delay") as baseline:
        baseline.log_metrics({"auc": 0.7, "auc_lower": 0.68, "auc_upper": 0.72, "rows": 500})
    with judged.runs.active(experiment="delay") as run:
        version = judged.models.register("delay", bundle_of("strong"), run=run.id)
    unpinned = verdict_on(judged, Beats("auc", against="baseline"), version.ref)
    assert unpinned.outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert "no baseline is pinned in the experiment 'delay'" in unpinned.reason
    judged.runs.pin_baseline("delay", baseline.id)
    verdict = verdict_on(judged, Beats("auc", against="baseline"), version.ref)
    assert verdict.outcome is Outcome.PASSED, verdict.reason
    assert verdict.evidence.reference == f"run:{baseline.id}"


def test_a_bare_number_is_told_to_be_no_evidence(judged: World) -> None:
    run = judged.runs.start(experiment="delay")
    bare = judged.models.register("delay", bundle_of("strong"), run=run.id, metrics={"auc": 0.9})
    verdict = verdict_on(judged, AtLeast("auc", 0.5), bare.ref, holdout="")
    assert verdict.outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert "without an interval" in verdict.reason


def test_limits_on_metrics_size_latency_and_parity(judged: World) -> None:
    strong = "model:delay@2"
    assert verdict_on(judged, AtLeast("auc", 0.75), strong).outcome is Outcome.PASSED
    assert verdict_on(judged, AtLeast("auc", 0.99), strong).outcome is Outcome.FAILED
    assert verdict_on(judged, AtMost("log_loss", 0.6), strong).outcome is Outcome.PASSED
    assert verdict_on(judged, AtMost("ece", 0.2), strong).outcome is Outcome.PASSED
    assert verdict_on(judged, MaxSize(50_000_000), strong).outcome is Outcome.PASSED
    assert verdict_on(judged, MaxSize(10), strong).outcome is Outcome.FAILED
    assert verdict_on(judged, MaxLatency(1000.0), strong, holdout="").outcome is Outcome.PASSED
    assert verdict_on(judged, MaxLatency(1e-6), strong).outcome is Outcome.FAILED
    assert verdict_on(judged, ParityProven(), strong).outcome is Outcome.PASSED


def test_slices_find_where_a_version_is_worse(judged: World) -> None:
    gate = Slices(("origin",), max_loss_increase=0.01)
    assert verdict_on(judged, gate, "model:delay@2").outcome is Outcome.PASSED
    broken = verdict_on(judged, gate, "model:delay@3")
    assert broken.outcome is Outcome.FAILED
    assert len(broken.evidence.slices) == 3
    assert verdict_on(judged, Slices(("nowhere",)), "model:delay@2").outcome is Outcome.NOT_ENOUGH_EVIDENCE


@pytest.mark.parametrize(
    ("gate", "holdout", "said"),
    [
        (Beats("auc"), "dataset:gone@1", "gone"),
        (AtLeast("zest", 1.0), HOLDOUT, "records no metric 'zest'"),
        (Beats("auc", against="model:other@1"), HOLDOUT, "other"),
    ],
)
def test_what_cannot_be_measured_is_not_enough_evidence(judged: World, gate: AnyGate, holdout: str, said: str) -> None:
    verdict = verdict_on(judged, gate, "model:delay@2", holdout=holdout)
    assert verdict.outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert said in verdict.reason


def test_a_target_of_unknown_classes_is_told(judged: World) -> None:
    rows = make_rows(300, seed=3)
    judged.datasets.ingest("odd", rows.with_columns(late=rows["late"] + 1))
    verdict = verdict_on(judged, Beats("auc"), "model:delay@2", holdout="dataset:odd@1")
    assert verdict.outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert "none of the classes" in verdict.reason


def test_a_damaged_bundle_is_told_and_does_not_pass(judged: World) -> None:
    judged.stores.objects.delete(judged.models.get("model:delay@2").bundle)
    verdict = verdict_on(judged, ParityProven(), "model:delay@2")
    assert verdict.outcome is Outcome.NOT_ENOUGH_EVIDENCE


def test_too_few_values_leave_a_quantile_open() -> None:
    values = list(np.random.default_rng(0).exponential(size=20))
    assert quantile_interval(values, 0.99, 0.05).upper == float("inf")
    many = quantile_interval(list(np.random.default_rng(0).exponential(size=5000)), 0.5, 0.05)
    assert many.lower < np.log(2) < many.upper
    assert many.upper - many.lower < 0.2


def test_a_recorded_interval_holds_its_value() -> None:
    found, note = recorded_interval({"auc": 0.9, "auc_lower": 0.91, "auc_upper": 0.95, "auc_n": 10}, "auc", "x")
    assert note == ""
    assert found is not None
    assert (found.lower, found.estimate, found.upper, found.n) == (0.9, 0.9, 0.95, 10)
