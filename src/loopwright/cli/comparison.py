"""Runs beside each other, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopwright.cli.render import cell

if TYPE_CHECKING:
    from loopwright.track import RunComparison


def print_comparison(comparison: RunComparison) -> None:
    """A column per run, a row per param, metric, tag or input that differs; metrics with the change to the first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for run in comparison.runs:
        table.add_column(f"{run.name or run.id[:12]}\n{run.status.value}", overflow="fold")
    for title, differences in (
        ("params", comparison.params),
        ("tags", comparison.tags),
        ("inputs", comparison.inputs),
    ):
        _section(table, title, [(item.key, [Text(cell(value)) for value in item.values]) for item in differences])
    metrics = [
        (item.key, [_metric(value, delta) for value, delta in zip(item.values, item.delta, strict=True)])
        for item in comparison.metrics
    ]
    _section(table, "metrics", metrics)
    Console().print(table if table.row_count else "these runs do not differ")


def _section(table: Table, title: str, rows: list[tuple[str, list[Text]]]) -> None:
    if rows:
        table.add_row(Text(title, style="bold cyan"))
    for key, cells in rows:
        table.add_row(Text(key), *cells)


def _metric(value: float | None, delta: float | None) -> Text:
    text = Text(cell(value))
    if delta:
        text.append(f"  {delta:+.4g}", style="dim")
    return text
