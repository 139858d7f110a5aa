"""The end of the story on the terminal: the timeline of decisions, and how to go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.demos.flights.story import Summary


def print_ending(summary: Summary, root: Path) -> None:
    """Print the timeline and the next steps."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from loopwright.demos.narrator import short

    console = Console()
    table = Table(title="What the loop decided, and why", box=None, header_style="bold", pad_edge=False)
    for name in ("at", "decision", "of", "evidence"):
        table.add_column(name, overflow="fold")
    for decision in summary.decisions:
        table.add_row(
            decision.at[:16].replace("T", " "), decision.kind, short(decision.subject), Text(_why(decision.evidence))
        )
    console.print(table)
    console.print(
        f"\n{summary.predictions} predictions and {summary.labels} labels in {summary.seconds:.0f} s. "
        f"Reproduced {short('run:' + summary.reproduce.run)}: {summary.reproduce.verdict}."
    )
    console.print(f"report      {summary.report}")
    console.print(f"live pages  {summary.url}  (again later: {summary.proceed})")
    console.print(f"trace       loopwright trace prediction:{summary.prediction.id} --workspace {root}")
    console.print("your data   loopwright init my-project --data FILE.csv --target COLUMN")


def _why(evidence: dict[str, Any]) -> str:
    text = str(evidence.get("reason") or evidence.get("summary") or evidence.get("error") or "")
    return text if len(text) <= 200 else text[:199] + "…"
