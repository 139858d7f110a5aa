"""What LightGBM and XGBoost have in common: curves by iteration, and the importance of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loopwright.track.autolog.figures import bar_figure
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog


class Curves:
    """Metrics by iteration: each n-th is kept, and the last one always."""

    def __init__(self, log: TrainingLog) -> None:
        self._log, self._every = log, log.options.log_every_n_steps
        self._last: tuple[int, Mapping[str, Any]] | None = None

    def take(self, step: int, values: Mapping[str, Any]) -> None:
        """Take the values of an iteration."""
        if step % self._every == 0:
            self._last = None
            self._log.metrics(values, step)
        else:
            self._last = step, values

    def end(self) -> None:
        """There are no more iterations."""
        if self._last is not None:
            step, values = self._last
            self._log.metrics(values, step)


def log_importance(log: TrainingLog, names: Sequence[str], kinds: Mapping[str, Sequence[float]]) -> None:
    """Log how much each feature matters, by each kind of importance: as a table, and the first kind as a figure."""
    with quietly("the importance of features"):
        if not names:
            return
        first, values = next(iter(kinds.items()))
        order = sorted(range(len(names)), key=lambda at: -values[at])
        columns: dict[str, list[Any]] = {"feature": [names[at] for at in order]}
        columns |= {kind: [float(some[at]) for at in order] for kind, some in kinds.items()}
        log.table(columns, "feature_importance.parquet")
        bars = bar_figure(list(names), [float(value) for value in values], f"Importance by {first}")
        log.figure(bars, "feature_importance")
