"""When an alert opens and closes: pure functions of the newest verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from loopwright.monitor.judging import limit_of, metric_of
from loopwright.monitor.model import DriftPolicy, Monitor, PerformancePolicy, Verdict, WindowReport
from loopwright.monitor.references import Reference

_FEATURES_SHOWN = 20


class About(StrEnum):
    """What an alert is about."""

    DRIFT = "drift"
    PERFORMANCE = "performance"


class Judgement(msgspec.Struct, frozen=True):
    """What one window said of one question, and of which version."""

    start: datetime
    model: str
    verdict: Verdict


class Change(StrEnum):
    """What happens to the alert."""

    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


class Step(msgspec.Struct, frozen=True):
    """A change of an alert; `since` is the start of the streak that led to it."""

    change: Change
    since: datetime | None = None
    reason: str = ""


def next_step(newest_first: Sequence[Judgement], consecutive: int, open_for: str | None) -> Step:
    """What becomes of an alert.

    It opens after `consecutive` bad windows of one version in a row, and closes after as many fine ones, or when
    another version has taken over. Windows that say nothing must be left out by the caller: they neither make nor
    break a streak.

    Args:
        newest_first: the newest judgements.
        consecutive: how many windows make a streak, at least 1.
        open_for: the version that the open alert is about; None if none is open.
    """
    if not newest_first:
        return Step(Change.NONE)
    model = newest_first[0].model
    if open_for is not None and open_for != model:
        return Step(Change.CLOSE, newest_first[0].start, f"{model} has taken over from {open_for}")
    streak = _streak(newest_first)
    if len(streak) < max(1, consecutive):
        return Step(Change.NONE)
    verdict, since = streak[0].verdict, streak[-1].start
    if verdict is Verdict.BAD and open_for is None:
        return Step(Change.OPEN, since)
    if verdict is Verdict.FINE and open_for is not None:
        return Step(Change.CLOSE, since, f"{len(streak)} windows in a row were fine")
    return Step(Change.NONE)


def _streak(newest_first: Sequence[Judgement]) -> list[Judgement]:
    """The newest judgements that agree in version and verdict."""
    first = newest_first[0]
    streak: list[Judgement] = []
    for judgement in newest_first:
        if (judgement.model, judgement.verdict) != (first.model, first.verdict):
            break
        streak.append(judgement)
    return streak


def summary_of(about: About, report: WindowReport) -> str:
    """One sentence for people."""
    if about is About.DRIFT:
        return f"inputs of {report.endpoint} drifted from the training data of {report.model}: {report.drift_reason}"
    return f"{report.model} on {report.endpoint} has degraded: {report.performance_reason}"


def evidence_of(about: About, monitor: Monitor, report: WindowReport, reference: Reference) -> dict[str, Any]:
    """The statistic, its threshold and n behind an alert, from the window that opened it."""
    shared = {"window_start": report.start, "window_end": report.end}
    if about is About.DRIFT:
        assert monitor.drift is not None
        return shared | _drift_evidence(monitor.drift, report)
    assert monitor.performance is not None
    return shared | _performance_evidence(monitor.performance, report, reference)


def _drift_evidence(policy: DriftPolicy, report: WindowReport) -> dict[str, Any]:
    drifted = [feature for feature in report.drift if feature.drifted]
    return {
        "statistic": "population stability index",
        "value": drifted[0].effect if drifted else None,
        "threshold": policy.min_effect,
        "alpha": policy.alpha,
        "n": report.rows,
        "features_tested": len(report.drift),
        "features_drifted": len(drifted),
        "features": [
            {
                "feature": feature.feature,
                "test": feature.test,
                "statistic": feature.statistic,
                "p_adjusted": feature.adjusted,
                "effect": feature.effect,
            }
            for feature in drifted[:_FEATURES_SHOWN]
        ],
    }


def _performance_evidence(policy: PerformancePolicy, report: WindowReport, reference: Reference) -> dict[str, Any]:
    name = metric_of(policy, reference)
    found = report.performance[name]
    return {
        "statistic": name,
        "value": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "reference": found.reference,
        "threshold": limit_of(policy, reference, name),
        "alpha": policy.alpha,
        "n": found.n,
    }
