"""Progress bars on stderr, for terminals only; lines in a log are not bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from loopwright.core import Task, shown_by

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class _Bar:
    def __init__(self, progress: Progress, task: TaskID, title: str) -> None:
        self._progress, self._task, self._title = progress, task, title

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        self._progress.update(self._task, advance=amount, description=f"{self._title} {note}".rstrip())


def on_stderr() -> AbstractContextManager[None]:
    """Show progress on stderr if it is a terminal."""
    return shown_by(_report) if sys.stderr.isatty() else nullcontext()


def _report(title: str, total: float | None) -> Iterator[Task]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield _Bar(shown, shown.add_task(title, total=total), title)
