"""Progress of long work. Rooms report it; who shows it (the CLI, a notebook, nobody) is set from above."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Task(Protocol):
    """One piece of long work that is under way."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Say that `amount` more is done."""
        ...


class _Silent:
    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Nobody watches."""


Reporter = Callable[[str, float | None], "Iterator[Task]"]
_reporter: ContextVar[Reporter | None] = ContextVar("loopwright_progress", default=None)


@contextmanager
def progress(title: str, total: float | None = None) -> Iterator[Task]:
    """Report a piece of long work; `total` is its amount where that is known."""
    reporter = _reporter.get()
    if reporter is None:
        yield _Silent()
    else:
        yield from reporter(title, total)


@contextmanager
def shown_by(reporter: Reporter) -> Iterator[None]:
    """Within this context, progress is shown by `reporter`: a generator function that yields one Task."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)
