"""Runs beside each other, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from loopwright.cli.render import cell, console_of

if TYPE_CHECKING:
    from loopwright.pipeline import CodeDifference
    from loopwright.track import MetricDifference, RunComparison


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
    metrics = [(item.key, [_metric(item, at) for at in range(len(item.values))]) for item in comparison.metrics]
    _section(table, "metrics", metrics)
    console = console_of()
    console.print(table if table.row_count else "these runs do not differ")
    if comparison.baseline:
        console.print(Text("changes are against the baseline of the experiment", style="dim"))


def print_code(name: str, found: CodeDifference | None) -> None:
    """What changed in code, environment and inputs since the first run."""
    console = console_of()
    if found is None or found.is_empty:
        return
    console.print(Text(f"\ncode, environment and inputs of {name}", style="bold cyan"))
    if found.commits[0] != found.commits[1] or any(found.uncommitted):
        states = (
            f"{commit[:12] or 'no commit'}{' + changes' * dirty}"
            for commit, dirty in zip(found.commits, found.uncommitted, strict=True)
        )
        console.print(Text("  commit  " + " → ".join(states)))
    for title, changes in (("package", found.packages), ("setting", found.settings), ("input", found.inputs)):
        for key, (before, after) in changes.items():
            console.print(Text(f"  {title}  {key}  {before or 'none'} → {after or 'none'}"))
    for file in found.files:
        console.print(Text(f"  file  {file.path}  {file.change}"))
        for line in file.diff.splitlines()[2:]:
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            console.print(Text(f"    {line}", style=style))


def _section(table: Table, title: str, rows: list[tuple[str, list[Text]]]) -> None:
    if rows:
        table.add_row(Text(title, style="bold cyan"))
    for key, cells in rows:
        table.add_row(Text(key), *cells)


def _metric(item: MetricDifference, at: int) -> Text:
    """A value with its interval, and its change with the interval of that."""
    text = Text(cell(item.values[at]))
    own = item.intervals[at] if item.intervals else None
    if own is not None:
        text.append(f" [{own.lower:.4g}, {own.upper:.4g}] n={own.n}", style="dim")
    if item.delta[at]:
        text.append(f"  {item.delta[at]:+.4g}", style="dim")
        change = item.delta_intervals[at] if item.delta_intervals else None
        if change is not None:
            text.append(f" [{change.lower:+.4g}, {change.upper:+.4g}]", style="dim")
    return text
