"""Runs beside each other: pure functions of their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from loopwright.track.model import (
    BaselineDelta,
    Difference,
    MetricDifference,
    Run,
    RunComparison,
)
from loopwright.track.repeats import Repeats, difference

RepeatsOfRun = Mapping[str, Repeats]


def compare_runs(
    runs: Sequence[Run],
    everything: bool = False,
    repeats: Mapping[str, RepeatsOfRun] | None = None,
    baseline: str = "",
) -> RunComparison:
    """What differs between runs, or with `everything` all that they have.

    Args:
        repeats: by run and metric, the values fold by fold or repeat by repeat.
        baseline: the id of the run that differences are taken against; else it is the first that has the metric.
    """
    return RunComparison(
        runs=list(runs),
        params=_differences(runs, lambda run: run.params, everything),
        metrics=_metric_differences(runs, everything, repeats or {}, baseline),
        tags=_differences(runs, lambda run: run.tags, everything),
        inputs=_differences(runs, _inputs_by_name, everything),
        baseline=baseline if any(run.id == baseline for run in runs) else "",
    )


def delta_to_baseline(run: Run, baseline: Run | None) -> BaselineDelta:
    """A run's last values minus those of the baseline of its experiment."""
    if baseline is None or run.id == baseline.id:
        return BaselineDelta(run.id, baseline.id if baseline else "", {})
    shared = sorted(run.metrics.keys() & baseline.metrics.keys())
    return BaselineDelta(run.id, baseline.id, {key: run.metrics[key] - baseline.metrics[key] for key in shared})


def _differences(runs: Sequence[Run], of: Callable[[Run], dict[str, str]], everything: bool) -> list[Difference]:
    columns = [of(run) for run in runs]
    found = (Difference(key, [column.get(key) for column in columns]) for key in _keys(columns))
    return [item for item in found if everything or len(set(item.values)) > 1]


def _metric_differences(
    runs: Sequence[Run], everything: bool, repeats: Mapping[str, RepeatsOfRun], baseline: str
) -> list[MetricDifference]:
    found = []
    for key in _keys([run.metrics for run in runs] + [_means(repeats.get(run.id, {})) for run in runs]):
        taken = [repeats.get(run.id, {}).get(key) for run in runs]
        values = [_value(run, key, several) for run, several in zip(runs, taken, strict=True)]
        base = _base(runs, values, baseline)
        if not everything and len(set(values)) <= 1:
            continue
        delta = [None if value is None or base is None else value - _known(values[base]) for value in values]
        intervals = [several.interval if several else None for several in taken]
        of_delta = [
            None if base is None or at == base else difference(taken[base], several) for at, several in enumerate(taken)
        ]
        found.append(MetricDifference(key, values, delta, intervals, of_delta))
    return found


def _base(runs: Sequence[Run], values: Sequence[float | None], baseline: str) -> int | None:
    having = [at for at, value in enumerate(values) if value is not None]
    return next((at for at in having if runs[at].id == baseline), having[0] if having else None)


def _value(run: Run, key: str, several: Repeats | None) -> float | None:
    """What the run says itself; else the mean of its repeats."""
    if key in run.metrics:
        return run.metrics[key]
    return sum(several.values.values()) / len(several.values) if several else None


def _known(value: float | None) -> float:
    if value is None:
        raise ValueError("the run that others are compared with has no value")
    return value


def _means(repeats: RepeatsOfRun) -> dict[str, float]:
    return dict.fromkeys(repeats, 0.0)


def _inputs_by_name(run: Run) -> dict[str, str]:
    return {item.name or item.ref: item.ref for item in run.inputs}


def _keys(columns: Iterable[Mapping[str, object]]) -> list[str]:
    return sorted({key for column in columns for key in column})
