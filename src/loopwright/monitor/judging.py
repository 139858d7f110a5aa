"""What a window says: pure functions of its state, the monitor's policies and the training reference."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from loopwright.monitor.model import (
    DriftPolicy,
    FeatureDrift,
    MetricReport,
    Monitor,
    PerformancePolicy,
    VariantReport,
    Verdict,
    WindowReport,
)
from loopwright.monitor.references import Reference
from loopwright.monitor.windows import VariantState, WindowState
from loopwright.stats import Interval, adjusted_p_values, compare, is_lower_better

ReferenceOf = Callable[[str], Reference]
_OWN_METRIC = {"regression": "mae"}


class Judged(msgspec.Struct, frozen=True):
    """A verdict with its reason in words."""

    verdict: Verdict
    reason: str


def judge_drift(
    policy: DriftPolicy | None, state: VariantState | None, reference: Reference
) -> tuple[Judged, list[FeatureDrift]]:
    """Compare a window's features with the training profile."""
    if policy is None:
        return Judged(Verdict.NOT_JUDGED, "the monitor does not watch drift"), []
    profile = reference.table
    if state is None or state.features is None or profile is None:
        name = reference.model or "no version"
        return _unknown(f"the training profile of {name} is not known: {reference.reason}"), []
    if state.rows < policy.min_rows:
        return _unknown(f"{state.rows} of {policy.min_rows} rows"), []
    names = [name for name in state.features.columns if name in profile.columns]
    results = [compare(profile.columns[name], state.features.columns[name]) for name in names]
    adjusted = adjusted_p_values([result.p_value for result in results])
    features = [
        FeatureDrift(
            name,
            result.test,
            result.statistic,
            result.p_value,
            corrected,
            result.effect.value,
            corrected <= policy.alpha and result.effect.value >= policy.min_effect,
            result.n_reference,
            result.n_current,
            result.nulls_reference,
            result.nulls_current,
        )
        for name, result, corrected in zip(names, results, adjusted, strict=True)
    ]
    features.sort(key=lambda feature: -feature.effect)
    return _say_drift(policy, [feature for feature in features if feature.drifted], len(features)), features


def _say_drift(policy: DriftPolicy, drifted: list[FeatureDrift], tested: int) -> Judged:
    shown = ", ".join(f"{feature.feature} (PSI {feature.effect:.2f})" for feature in drifted[:5])
    more = f" and {len(drifted) - 5} more" if len(drifted) > 5 else ""
    said = f"{len(drifted)} of {tested} features drifted" + (f": {shown}{more}" if drifted else "")
    return Judged(Verdict.BAD if len(drifted) >= max(1, policy.min_features) else Verdict.FINE, said)


def judge_performance(
    policy: PerformancePolicy | None, state: VariantState | None, reference: Reference
) -> tuple[Judged, dict[str, MetricReport]]:
    """Compare a window's labelled predictions with what the version showed in training, or with a limit."""
    if policy is None:
        return Judged(Verdict.NOT_JUDGED, "the monitor does not watch performance"), {}
    if state is None or state.scores is None:
        return _unknown(f"the task of {reference.model or 'no version'} has no metrics: {reference.reason}"), {}
    metrics = {
        name: MetricReport(found.estimate, found.lower, found.upper, found.n, reference.metrics.get(name))
        for name, found in state.scores.estimates(policy.alpha).items()
    }
    labels = state.scores.n
    if labels < policy.min_labels:
        return _unknown(f"{labels} of {policy.min_labels} labels"), metrics
    name = metric_of(policy, reference)
    if name not in metrics:
        return _unknown(f"there is no metric {name!r}; there are {', '.join(sorted(metrics))}"), metrics
    limit = limit_of(policy, reference, name)
    if limit is None:
        said = f"{reference.model} has no metric {name!r} from training, and the monitor sets no limit"
        return _unknown(said), metrics
    return _say_performance(name, metrics[name], limit), metrics


def metric_of(policy: PerformancePolicy, reference: Reference) -> str:
    """The metric that is judged: the policy's, or the task's own."""
    return policy.metric or _OWN_METRIC.get(reference.task, "brier")


def limit_of(policy: PerformancePolicy, reference: Reference, name: str) -> float | None:
    """What the metric must not certainly pass; None where nothing sets it."""
    if policy.limit is not None:
        return policy.limit
    own = reference.metrics.get(name)
    if own is None:
        return None
    return own + policy.max_drop if is_lower_better(name) else own - policy.max_drop


def _say_performance(name: str, found: MetricReport, limit: float) -> Judged:
    lower_better = is_lower_better(name)
    bad = found.lower > limit if lower_better else found.upper < limit
    side = "above" if lower_better else "below"
    said = (
        f"{name} {found.value:.4g}, interval {found.lower:.4g} to {found.upper:.4g} (n {found.n}), is "
        f"{'certainly' if bad else 'not certainly'} {side} {limit:.4g}"
    )
    return Judged(Verdict.BAD if bad else Verdict.FINE, said)


def _unknown(reason: str) -> Judged:
    return Judged(Verdict.NOT_ENOUGH_EVIDENCE, reason.removesuffix(": "))


def draft_report(monitor: Monitor, start: datetime, end: datetime, state: WindowState, late_rows: int) -> WindowReport:
    """The report of a window of which nothing is judged yet."""
    return WindowReport(
        monitor=monitor.name,
        endpoint=monitor.endpoint,
        start=start,
        end=end,
        rows=state.rows,
        labels=state.labels,
        late_rows=late_rows,
        late_labels=0,
        model=state.main,
        drift_verdict=Verdict.NOT_JUDGED,
        drift_reason="",
        drift=[],
        performance_verdict=Verdict.NOT_JUDGED,
        performance_reason="",
        metric="",
        performance={},
        by_variant=[report_variant(model, variant) for model, variant in sorted(state.variants.items())],
    )


def report_variant(model: str, state: VariantState, alpha: float = 0.05) -> VariantReport:
    """What one version did in a window."""
    timed = state.latency_ms.n > 0
    return VariantReport(
        model=model,
        shadow=state.shadow,
        rows=state.rows,
        errors=state.errors,
        labels=0 if state.scores is None else state.scores.n,
        latency_mean_ms=state.latency_ms.mean if timed else 0.0,
        latency_p50_ms=state.latency.quantile(0.5) if timed else 0.0,
        latency_p99_ms=state.latency.quantile(0.99) if timed else 0.0,
        metrics=dict[str, Interval]() if state.scores is None else state.scores.estimates(alpha),
    )
