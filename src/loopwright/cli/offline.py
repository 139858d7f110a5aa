"""What a command can still tell of runs when their server does not answer: what waits in the spools of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core import Operation

if TYPE_CHECKING:
    from loopwright.track import OfflineRuns

_READS = ("get", "history", "search", "search_page", "compare", "against_baseline", "artifacts")


def can_answer(operation: Operation) -> bool:
    """Whether an operation is one that spools can answer."""
    return operation.room == "runs" and operation.verb in _READS


def offline_runs(where: str | None, project: str | None) -> OfflineRuns:
    """The runs that wait on this machine for a workspace.

    Raises:
        Invalid: its settings are malformed.
    """
    from loopwright.recording import about_of, spool_roots
    from loopwright.track import About, OfflineRuns

    about, _ = about_of(where, project)
    return OfflineRuns(spool_roots(where), About(about.where, project or ""))
