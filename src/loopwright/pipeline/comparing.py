"""Whether two values are the same, nearly the same, or different. Pure functions of values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.pipeline.model import Comparison, Verdict

_ORDER = [Verdict.IDENTICAL, Verdict.WITHIN_TOLERANCE, Verdict.DIFFERENT]


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst of some verdicts; identical if there are none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.IDENTICAL)


def compare_values(name: str, before: Any, now: Any, tolerance: float) -> Comparison:
    """Compare two values number by number, whatever holds them.

    Args:
        tolerance: two numbers agree if they differ by at most this much, relative to the larger of both and 1.
    """
    numbers = _Differences(tolerance)
    detail = numbers.compare(before, now, name)
    verdict = Verdict.DIFFERENT if detail else Verdict.WITHIN_TOLERANCE if numbers.differ else Verdict.IDENTICAL
    absolute, relative = (numbers.absolute, numbers.relative) if numbers.differ else (None, None)
    return Comparison(name, verdict, absolute, relative, detail)


class _Differences:
    """Walks two values side by side; remembers the largest differences; names the first place that is too different."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance, self.differ, self.absolute, self.relative = tolerance, False, 0.0, 0.0

    def compare(self, before: Any, now: Any, where: str) -> str:
        """Where and how the values are too different; empty if they are not."""
        if _is_number(before) and _is_number(now):
            return self._numbers(before, now, where)
        before, now = _plain(before), _plain(now)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            return self._mappings(before, now, where)
        if isinstance(before, list | tuple) and isinstance(now, list | tuple):
            return self._sequences(before, now, where)
        if type(before) is not type(now) or not _equal(before, now):
            return f"{where}: {_short(before)} before, {_short(now)} now"
        return ""

    def _numbers(self, before: int | float, now: int | float, where: str) -> str:
        if before == now or (math.isnan(before) and math.isnan(now)):
            return ""
        self.differ = True
        absolute = abs(float(before) - float(now))
        relative = absolute / max(abs(before), abs(now), 1.0)
        self.absolute, self.relative = max(absolute, self.absolute), max(relative, self.relative)
        return "" if relative <= self.tolerance else f"{where}: {before!r} before, {now!r} now"

    def _mappings(self, before: Mapping[Any, Any], now: Mapping[Any, Any], where: str) -> str:
        if before.keys() != now.keys():
            return f"{where}: keys {sorted(map(str, before))} before, {sorted(map(str, now))} now"
        return self._first((before[key], now[key], f"{where}.{key}") for key in before)

    def _sequences(self, before: Any, now: Any, where: str) -> str:
        if len(before) != len(now):
            return f"{where}: {len(before)} elements before, {len(now)} now"
        pairs = zip(before, now, strict=True)
        return self._first((old, new, f"{where}[{number}]") for number, (old, new) in enumerate(pairs))

    def _first(self, pairs: Iterator[tuple[Any, Any, str]]) -> str:
        """All are looked at, so that the largest difference is known; the first that is too different is named."""
        found = ""
        for before, now, where in pairs:
            detail = self.compare(before, now, where)
            found = found or detail
        return found


def _plain(value: Any) -> Any:
    """Tables and arrays as mappings and lists of plain values; models by what they keep."""
    if hasattr(value, "to_dict") and hasattr(value, "columns") and hasattr(value, "schema"):
        return {name: value[name].to_list() for name in value.columns}
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        return {str(name): value[name].tolist() for name in value.columns}
    for method in ("to_list", "tolist", "to_pylist"):
        if hasattr(value, method):
            return getattr(value, method)()
    if hasattr(value, "__struct_fields__"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(before: Any, now: Any) -> bool:
    try:
        return bool(before == now)
    except (ValueError, TypeError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
