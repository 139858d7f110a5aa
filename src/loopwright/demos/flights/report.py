"""The demo's report: one HTML file with figures of the windows, never of the rows, so that it opens at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.demos.narrator import Stage, decisions_in, reason_of, short
from loopwright.ui import Drawing, Mark, drift_over_time, performance_over_time, traffic_over_time

if TYPE_CHECKING:
    from loopwright.demos.flights.replay import Counts
    from loopwright.store import Event
    from loopwright.workspace import Workspace

# What is marked on the time axes; the table below them lists every decision.
_MARKED = {
    "alert.opened": "bad",
    "loop.triggered": "warn",
    "rollout.started": "accent",
    "rollout.completed": "good",
    "rollout.rolled_back": "bad",
}
_MAX_WINDOWS = 1000


def write_report(path: Path, ws: Workspace, stages: Sequence[Stage], counts: Counts) -> None:
    """Write the report of what happened in a workspace."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    events = decisions_in(ws)
    numbered = [event for event in events if event.kind in _MARKED]
    marks = [Mark(event.at, f"{event.kind}: {reason_of(event)[:160]}", _MARKED[event.kind]) for event in numbered]
    windows = ws.monitors.windows(endpoint="delay", limit=_MAX_WINDOWS)
    drawings = [
        traffic_over_time(_shares(ws), until=ws.clock.now(), marks=marks),
        performance_over_time(windows, "brier", marks),
        drift_over_time(windows, marks),
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html").render(
        plotly_js=get_plotlyjs(),
        counts=counts,
        versions=sum(1 for event in events if event.kind == "rollout.completed"),
        rolled_back=sum(1 for event in events if event.kind == "rollout.rolled_back"),
        figures=[{"title": drawing.title, "html": _html(drawing)} for drawing in drawings],
        decisions=[_row(event, numbered) for event in events],
        stages=stages,
    )
    path.write_text(page, encoding="utf-8")


def _html(drawing: Drawing) -> str:
    figure = drawing.plotly()
    figure.update_layout(template="plotly_white", title=None, margin={"t": 30})
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return html


def _shares(ws: Workspace) -> list[tuple[datetime, Mapping[str, float]]]:
    """When the endpoint's traffic changed, and to what."""
    events = ws.events.list(kinds=("endpoint.traffic_set",), limit=10_000)
    return [(event.at, event.evidence["after"]) for event in events]


def _row(event: Event, numbered: Sequence[Event]) -> dict[str, Any]:
    number = next((place for place, each in enumerate(numbered, start=1) if each.id == event.id), "")
    return {
        "number": number,
        "at": f"{event.at:%Y-%m-%d %H:%M}",
        "kind": event.kind,
        "subject": short(event.subject),
        "tone": _MARKED.get(event.kind, ""),
        "why": reason_of(event),
    }
