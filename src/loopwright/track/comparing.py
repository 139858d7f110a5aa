"""Runs beside each other: pure functions of their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from loopwright.track.model import Difference, MetricDifference, Run, RunComparison


def compare_runs(runs: Sequence[Run], everything: bool = False) -> RunComparison:
    """What differs between runs, or with `everything` all that they have."""
    return RunComparison(
        runs=list(runs),
        params=_differences(runs, lambda run: run.params, everything),
        metrics=_metric_differences(runs, everything),
        tags=_differences(runs, lambda run: run.tags, everything),
        inputs=_differences(runs, _inputs_by_name, everything),
    )


def _differences(runs: Sequence[Run], of: Callable[[Run], dict[str, str]], everything: bool) -> list[Difference]:
    columns = [of(run) for run in runs]
    found = (Difference(key, [column.get(key) for column in columns]) for key in _keys(columns))
    return [item for item in found if everything or len(set(item.values)) > 1]


def _metric_differences(runs: Sequence[Run], everything: bool) -> list[MetricDifference]:
    found = []
    for key in _keys([run.metrics for run in runs]):
        values = [run.metrics.get(key) for run in runs]
        base = next(value for value in values if value is not None)
        delta = [None if value is None else value - base for value in values]
        if everything or len(set(values)) > 1:
            found.append(MetricDifference(key, values, delta))
    return found


def _inputs_by_name(run: Run) -> dict[str, str]:
    return {item.name or item.ref: item.ref for item in run.inputs}


def _keys(columns: Iterable[dict[str, str] | dict[str, float]]) -> list[str]:
    return sorted({key for column in columns for key in column})
