"""Parallel coordinates as plain SVG, made on the server.

Plotly's own need WebGL and compile code at run time, which our content security policy forbids; these need no script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from loopwright.ui.formats import number

_WIDTH, _HEIGHT = 1000.0, 300.0
_TOP, _SIDE = 44.0, 60.0
_MOST_WORDS = 12

Axis = Sequence[float | str | None]


class Scale(msgspec.Struct, frozen=True):
    """One axis: where it stands, what it is called, and its ticks as (place, text)."""

    name: str
    x: float
    ticks: tuple[tuple[float, str], ...]


class Line(msgspec.Struct, frozen=True):
    """One run: its id and name, its way through the axes, and its place on the colour scale of 0 to 1."""

    id: str
    name: str
    points: str
    ys: tuple[float, ...]
    shade: float
    told: str


class Parallel(msgspec.Struct, frozen=True):
    """A picture of 1000 × 300; `left_out` runs have no value on some axis. `shaded_by` names the axis of the colour."""

    scales: tuple[Scale, ...]
    lines: tuple[Line, ...]
    shaded_by: str
    left_out: int
    width: float = _WIDTH
    height: float = _HEIGHT
    top: float = _TOP


def parallel(runs: Sequence[tuple[str, str]], axes: Mapping[str, Axis], shade: str) -> Parallel:
    """One line per run through one axis per param or metric.

    Args:
        runs: ids and names, in one order.
        axes: by the name of an axis, a value per run, in that order. Texts that are all numbers make an axis of
            numbers, other texts one of words.
        shade: the axis that gives the lines their colour.
    """
    whole = [at for at in range(len(runs)) if all(_is_there(values[at]) for values in axes.values())]
    gap = (_WIDTH - 2 * _SIDE) / max(1, len(axes) - 1)
    scales: list[Scale] = []
    heights: list[list[float]] = []
    for place, (name, values) in enumerate(axes.items()):
        ticks, shares = _scaled([values[at] for at in whole])
        scales.append(Scale(name, round(_SIDE + place * gap, 1), tuple((_y(share), text) for share, text in ticks)))
        heights.append(shares)
    shades = heights[list(axes).index(shade)] if shade in axes else [0.5] * len(whole)
    lines = tuple(
        _line(runs[at], scales, [shares[row] for shares in heights], shades[row], [axes[s.name][at] for s in scales])
        for row, at in enumerate(whole)
    )
    return Parallel(tuple(scales), lines, shade, len(runs) - len(whole))


def _line(run: tuple[str, str], scales: Sequence[Scale], shares: Sequence[float], shade: float, values: Axis) -> Line:
    ys = tuple(_y(share) for share in shares)
    points = " ".join(f"{scale.x},{y}" for scale, y in zip(scales, ys, strict=True))
    told = ", ".join(f"{scale.name} {number(value)}" for scale, value in zip(scales, values, strict=True))
    return Line(run[0], run[1], points, ys, round(shade, 3), f"{run[1]}: {told}")


def _y(share: float) -> float:
    return round(_TOP + (1 - share) * (_HEIGHT - _TOP - 16), 1)


def _is_there(value: float | str | None) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _scaled(values: Axis) -> tuple[list[tuple[float, str]], list[float]]:
    """The ticks of an axis, and the share of its length that each value is at."""
    numbers = [_number(value) for value in values]
    known = [value for value in numbers if value is not None]
    if len(known) < len(values):
        return _worded([str(value) for value in values])
    low, high = min(known, default=0.0), max(known, default=0.0)
    if low == high:
        return [(0.5, number(low))], [0.5] * len(known)
    # Values that span decades, as learning rates do, are told apart on a logarithmic axis only.
    logarithmic = low > 0 and high / 100 >= low
    shares = [_share(value, low, high, logarithmic) for value in known]
    marks = [_back(share / 4, low, high, logarithmic) for share in range(5)]
    return [(at / 4, number(mark, 3)) for at, mark in enumerate(marks)], shares


def _share(value: float, low: float, high: float, logarithmic: bool) -> float:
    if logarithmic:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def _back(share: float, low: float, high: float, logarithmic: bool) -> float:
    if logarithmic:
        return math.exp((1 - share) * math.log(low) + share * math.log(high))
    return low * (1 - share) + high * share


def _worded(texts: Sequence[str]) -> tuple[list[tuple[float, str]], list[float]]:
    words = sorted(set(texts))
    place = {word: at / max(1, len(words) - 1) if len(words) > 1 else 0.5 for at, word in enumerate(words)}
    every = -(-len(words) // _MOST_WORDS)
    return [(place[word], word[:24]) for word in words[::every]], [place[text] for text in texts]


def _number(value: float | str | None) -> float | None:
    try:
        found = float(value) if value is not None else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None
