"""Points of many runs and metrics gathered into columns, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from loopwright.connect.mlflow.mapping import LAST_MS, value_of
from loopwright.track import Columns, columns_of

PIECE = 200_000
"""How many points are held at most before they are stored (plus one fetch)."""
ODD = "times of points outside the years 1970 to 9999 (the points came, at the nearest time)"
_US = 1000
_DOUBLE_MAX = 1.7976931348623157e308
_Points = tuple[list[int], list[int], list[float]]


class Gathering:
    """Points that were read and not stored yet. `odd` counts those whose time lies outside the years 1970 to 9999."""

    def __init__(self) -> None:
        self.count = self.odd = 0
        self._series: dict[tuple[str, str], _Points] = {}

    def add_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add (run, key, value, milliseconds, step, is NaN), as a backend store has them."""
        series = self._series
        for run, key, value, millis, step, is_nan in rows:
            held = series.get((run, key))
            if held is None:
                held = series[run, key] = ([], [], [])
            held[0].append(step or 0)
            held[1].append(millis * _US if 0 <= millis <= LAST_MS else self._nearest(millis))
            # A function call for every point would cost as much as all the rest.
            plain = not is_nan and value is not None and -_DOUBLE_MAX < value < _DOUBLE_MAX
            held[2].append(value if plain else value_of(value, bool(is_nan)))
        self.count += len(rows)

    def add(self, run: str, key: str, points: Iterable[tuple[float, int, int]]) -> None:
        """Add (value, milliseconds, step) of one metric."""
        steps, times, values = self._series.setdefault((run, key), ([], [], []))
        for value, millis, step in points:
            steps.append(step)
            times.append(millis * _US if 0 <= millis <= LAST_MS else self._nearest(millis))
            values.append(value)
            self.count += 1

    def _nearest(self, millis: int) -> int:
        """The nearest time that can be kept, for one that is none, such as nanoseconds that stand for milliseconds."""
        self.odd += 1
        return _US * min(max(millis, 0), LAST_MS)

    def take(self) -> dict[tuple[str, str], Columns]:
        """All that was gathered, which is then held no more."""
        found = {place: columns_of(*points, place[1]) for place, points in self._series.items()}
        self._series, self.count = {}, 0
        return found
