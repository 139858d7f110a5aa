"""Intervals that a run or a model version recorded beside a metric."""

from __future__ import annotations

from collections.abc import Mapping

from loopwright.stats import Interval


def recorded_interval(metrics: Mapping[str, float], metric: str, owner: str) -> tuple[Interval | None, str]:
    """The metric `auc` with what stands under `auc_lower`, `auc_upper` and `auc_n` (or `rows`), taken to be at 95 %;
    or nothing, and why: a bare number does not say how sure it is.

    Args:
        metrics: what was recorded.
        metric: its name.
        owner: whose it is, for the message.
    """
    value = metrics.get(metric)
    if value is None:
        return None, f"{owner} records no metric {metric!r}"
    lower, upper = metrics.get(f"{metric}_lower"), metrics.get(f"{metric}_upper")
    if lower is None or upper is None:
        return None, (
            f"{owner} records {metric} = {value:.4g} without an interval "
            f"(record {metric}_lower and {metric}_upper too, or register it with the tag holdout)"
        )
    n = int(metrics.get(f"{metric}_n", metrics.get("rows", 0)))
    return Interval(value, min(lower, value), max(upper, value), 0.95, n, "recorded"), ""
