"""A run as a person sees it while it goes on: a live line in a terminal, a card in a notebook."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwright.track.spool.trail import Traced

_BARS = "▁▂▃▄▅▆▇█"
_EVERY_S = 0.5
_SYSTEM = "system/"


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Values as bars of eighths, `width` at most, each the mean of as many values; what is not finite is left out."""
    finite = [value for value in values if math.isfinite(value)]
    count = min(width, len(finite))
    if not count:
        return ""
    edges = [place * len(finite) // count for place in range(count + 1)]
    # Half of each mean, divided first: neither a sum nor the span of large numbers is then too large for a number.
    means = [math.fsum(value / 2 / (b - a) for value in finite[a:b]) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    if not 0 < span < math.inf:
        return _BARS[3] * count
    return "".join(_BARS[min(7, int(8 * ((value - low) / span)))] for value in means)


def can_show_line() -> bool:
    """Whether stderr is a terminal, and nobody has said LOOPWRIGHT_PROGRESS=0."""
    with contextlib.suppress(AttributeError, ValueError):
        return sys.stderr.isatty() and os.environ.get("LOOPWRIGHT_PROGRESS", "1") != "0"
    return False


class LiveLine:
    """Redraws one line on stderr twice a second, while there is something new; the last one stays."""

    def __init__(self, name: str, traced: Callable[[], Mapping[str, Traced]]) -> None:
        """Args:
        name: the run's.
        traced: gives the metrics so far.
        """
        self._name, self._traced, self._began = name, traced, time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loopwright-line", daemon=True)

    def start(self) -> None:
        """Begin to show the line."""
        self._thread.start()

    def stop(self) -> None:
        """Show it for the last time."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(1.0)
            self._write("\n" if self._draw() else "")

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._draw()

    def _draw(self) -> bool:
        line = live_line(self._name, time.monotonic() - self._began, self._traced(), _width())
        if line:
            self._write(f"\r\x1b[K{line}")
        return bool(line)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a terminal may go at any time
            sys.stderr.write(text)
            sys.stderr.flush()


def live_line(name: str, seconds: float, traced: Mapping[str, Traced], width: int) -> str:
    """The line: name, time, and as many metrics as fit; empty as long as there is no metric."""
    parts = [f"{name} {int(seconds) // 60}:{int(seconds) % 60:02d}"]
    for key, item in traced.items():
        if not key.startswith(_SYSTEM):
            parts.append(f"{key} {item.last_value:.4g} {sparkline(item.kept)}")
    if len(parts) == 1:
        return ""
    line = parts[0]
    for part in parts[1:]:
        if len(line) + len(part) + 2 >= width:
            break
        line += f"  {part}"
    return line[: width - 1]


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def run_html(
    run: str, name: str, experiment: str, status: str, params: Mapping[str, str], traced: Mapping[str, Traced]
) -> str:
    """A run as HTML that stands by itself: no script, no style sheet, nothing loaded."""
    metrics = "".join(
        f"<tr><td>{escape(key)}</td><td style='text-align:right'>{item.last_value:.6g}</td>"
        f"<td style='text-align:right'>{item.last_step:,}</td><td>{_curve(item.kept)}</td></tr>"
        for key, item in sorted(traced.items(), key=lambda pair: (pair[0].startswith(_SYSTEM), pair[0]))
    )
    words = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in sorted(params.items()))
    return (
        "<div style='font-family:system-ui,sans-serif;line-height:1.4'>"
        f"<b>{escape(name or run)}</b> · {escape(experiment)} · {escape(status)} · <code>{escape(run)}</code>"
        + (f"<table><tr><th>metric</th><th>last</th><th>step</th><th></th></tr>{metrics}</table>" if metrics else "")
        + (f"<table><tr><th>param</th><th>value</th></tr>{words}</table>" if words else "")
        + "</div>"
    )


def _curve(values: Sequence[float], width: int = 120, height: int = 20) -> str:
    """A line through the values as a small SVG picture."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, span = min(finite), max(finite) - min(finite)
    scale = height - 2 if 0 < span < math.inf else 0
    points = " ".join(
        f"{place * width / (len(finite) - 1):.1f},{height - 1 - scale * ((value - low) / span if scale else 0.5):.1f}"
        for place, value in enumerate(finite)
    )
    return (
        f"<svg width='{width}' height='{height}' role='img' aria-label='{escape(sparkline(finite))}'>"
        f"<polyline points='{points}' fill='none' stroke='currentColor' stroke-width='1.2'/></svg>"
    )
