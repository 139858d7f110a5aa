"""Who takes what a spool holds, and who watches it go: light, so that the code that records need not load the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from loopwright.track.spool.notes import FileKept, Outcome, SpoolBatch


class SpoolTarget(Protocol):
    """A workspace as the receiver of batches. Used by one thread. Everything in it is durable when a method returns.

    Any of its methods may raise a LoopwrightError or an OSError: nothing of the batch was kept then, or its position
    says so; the caller tries again.
    """

    def deliver(self, batch: SpoolBatch) -> Outcome:
        """Apply a batch if it begins where the workspace has come to; in any case say where that is."""
        ...

    def keep_file(self, note: FileKept, file: Path) -> None:
        """Keep a file with a run; again and again if asked to.

        Raises:
            Invalid, NotFound, Conflict, Forbidden: it can never be kept.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Watcher:
    """What wants to know how a delivery goes on; this one does nothing with it."""

    def seen(self, batch: SpoolBatch) -> None:
        """A batch was read, and will be delivered now."""

    def segment_done(self, segment: int) -> None:
        """A sealed segment was delivered and removed."""

    def file_done(self, size_bytes: int) -> None:
        """A file was delivered and removed."""
