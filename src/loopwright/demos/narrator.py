"""Tells a demo's story on stderr: stages, decisions with their evidence, and how far the work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from loopwright.store import Event
    from loopwright.workspace import Workspace

DECISIONS = (
    "alert.opened",
    "alert.closed",
    "loop.triggered",
    "loop.training_failed",
    "run.failed",
    "model.version_created",
    "gate.judged",
    "approval.requested",
    "approval.granted",
    "approval.denied",
    "rollout.started",
    "rollout.advanced",
    "rollout.held",
    "rollout.completed",
    "rollout.rolled_back",
    "model.alias_moved",
    "loop.finished",
)
_TONES = {
    "alert.opened": "red",
    "rollout.rolled_back": "red",
    "run.failed": "red",
    "loop.training_failed": "red",
    "alert.closed": "green",
    "rollout.completed": "green",
    "loop.triggered": "yellow",
}


def decisions_in(ws: Workspace) -> list[Event]:
    """All decisions of a workspace, in order."""
    found: list[Event] = []
    after = 0
    while page := ws.events.list(after=after, limit=10_000):
        found += [event for event in page if event.kind in DECISIONS]
        after = page[-1].position or after
    return found


class Stage(msgspec.Struct, frozen=True):
    """A part of the story and how long it took."""

    name: str
    seconds: float


class Narrator:
    """Prints for a person; what it prints is never the result."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """A part of the story, timed."""
        self.console.print(f"\n[bold]{len(self.stages) + 1}. {title}[/bold]")
        begun = time.monotonic()
        yield
        self.stages.append(Stage(title, round(time.monotonic() - begun, 2)))

    def say(self, text: str) -> None:
        """A line of the story."""
        from rich.text import Text

        self.console.print(Text("   " + text))

    def decision(self, event: Event) -> None:
        """One decision, with why."""
        from rich.text import Text

        line = Text(f"   {event.at:%Y-%m-%d %H:%M}  ", style="dim")
        line.append(f"{event.kind:<22}", style=_TONES.get(event.kind, "cyan"))
        line.append(f" {short(event.subject)}  ", style="bold")
        line.append(reason_of(event)[:230])
        self.console.print(line)


def reason_of(event: Event) -> str:
    """Why a decision was taken, in its own words."""
    told: dict[str, Any] = event.evidence
    for name in ("reason", "summary", "error"):
        if told.get(name):
            return str(told[name])
    if event.kind == "model.version_created":
        metrics = told.get("metrics") or {}
        return ", ".join(f"{name} {metrics[name]:.4f}" for name in ("brier", "auc") if name in metrics)
    if event.kind == "loop.triggered":
        return f"by {told.get('trigger', '')}".rstrip()
    if event.kind == "rollout.started":
        return f"{told.get('candidate', '')} against {told.get('control') or 'nothing'}"
    return ""


def short(ref: str) -> str:
    """A ref with its id or digest cut."""
    kind, _, name = ref.partition(":")
    return f"{kind}:{name[:6]}…{name[-4:]}" if len(name) >= 32 and "@" not in name else ref
