"""What all figures share. A figure is Plotly's own JSON (`data` and `layout`), made without importing Plotly, so that a
page costs microseconds; a notebook shows it with `Drawing.plotly()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_MARKS = 60


@dataclass(frozen=True)
class Drawing:
    """A figure with its title, and its numbers as a table for who reads without JavaScript."""

    title: str
    figure: dict[str, Any]
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()

    def plotly(self) -> Figure:
        """The figure as Plotly's object, for notebooks and files."""
        from plotly.graph_objects import Figure

        layout = {**self.figure["layout"], "title": {"text": self.title}, "margin": {"t": 60}}
        return Figure({"data": _plain(self.figure["data"]), "layout": _plain(layout)})


@dataclass(frozen=True)
class Mark:
    """A decision, to be marked on a time axis. `tone` is `good`, `bad`, `warn` or `accent`."""

    at: datetime
    label: str
    tone: str = "accent"


_COLOURS = {"--good": "#0b7a53", "--bad": "#b8243b", "--warn": "#8f5a00", "--accent": "#3f5bd9", "--faint": "#697386"}
_COLOURS |= {"--c1": "#4263eb", "--c2": "#e8590c", "--c3": "#099268", "--c4": "#ae3ec9", "--c5": "#c2255c"}
_COLOURS |= {"--c6": "#1098ad", "--card": "#ffffff", "--line": "#e3e6eb", "--text": "#1a1f29"}


def _plain(value: Any) -> Any:
    """The figure with the style sheet's variables replaced by the colours of light mode."""
    if isinstance(value, str):
        name, _, alpha = value.partition("@")
        return _COLOURS[name] + (f"{round(float(alpha) * 255):02x}" if alpha else "") if name in _COLOURS else value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def colour(index: int, alpha: float | None = None) -> str:
    """The colour of the n-th series; with `alpha`, so much of it: `--c1@0.2`."""
    return f"--c{index % 6 + 1}" + ("" if alpha is None else f"@{alpha}")


def layout(*, y_title: str = "", x_title: str = "", height: int = 290, **more: Any) -> dict[str, Any]:
    """The layout that figures begin with."""
    return {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 12, "b": 44},
        "xaxis": {"title": {"text": x_title}, "automargin": True},
        "yaxis": {"title": {"text": y_title}, "automargin": True},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "x unified",
        **more,
    }


def with_marks(base: dict[str, Any], marks: Sequence[Mark]) -> dict[str, Any]:
    """The layout with a vertical line and a small label for each of the newest marks."""
    shown = sorted(marks, key=lambda mark: mark.at)[-MAX_MARKS:]
    shapes = [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": mark.at.isoformat(),
            "x1": mark.at.isoformat(),
            "y0": 0,
            "y1": 1,
            "line": {"color": f"--{mark.tone}", "width": 1.2, "dash": "dot"},
        }
        for mark in shown
    ]
    notes = [
        {
            "x": mark.at.isoformat(),
            "y": 1,
            "xref": "x",
            "yref": "paper",
            "text": str(number),
            "hovertext": safe(mark.label),
            "showarrow": False,
            "yanchor": "top",
            "xanchor": "left",
            "font": {"size": 10, "color": f"--{mark.tone}"},
        }
        for number, mark in enumerate(shown, start=1)
    ]
    return {**base, "shapes": [*base.get("shapes", []), *shapes], "annotations": [*base.get("annotations", []), *notes]}


def safe(text: str) -> str:
    """A text as Plotly shall show it: its own small markup language is switched off."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
