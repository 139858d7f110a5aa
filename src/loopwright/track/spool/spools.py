"""A process's spool as one thing: what writes it, and the thread that ships it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from loopwright.track.spool.contract import SpoolTarget
from loopwright.track.spool.folders import About
from loopwright.track.spool.shipping import Shipper
from loopwright.track.spool.trail import Trail
from loopwright.track.spool.writer import SpoolWriter

FLUSH_TIMEOUT_S = 30.0


class Spool:
    """Where the runs of one process and one project are recorded. Thread-safe."""

    def __init__(
        self, root: Path, about: About, open_target: Callable[[], SpoolTarget], *, max_bytes: int = 4 << 30
    ) -> None:
        """Args:
        root: the folder of all spools.
        about: where the runs belong.
        open_target: opens the workspace; called in the shipping thread, as often as it fails.
        max_bytes: what undelivered records may take on the disk, at most.
        """
        self.writer = SpoolWriter(root, about, max_bytes=max_bytes)
        self._shipper = Shipper(self.writer, open_target)
        self._pid = os.getpid()
        self._shipper.start()

    @property
    def trail(self) -> Trail:
        """The last values of each metric."""
        return self._shipper.trail

    @property
    def trouble(self) -> str:
        """Why nothing is delivered now; empty where it is."""
        return self._shipper.trouble

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything up to now is delivered; False if that takes longer, if the workspace does not answer,
        or in a process that was forked, whose records the first process delivers."""
        if os.getpid() != self._pid:
            return False
        return self._shipper.flush(FLUSH_TIMEOUT_S if timeout_s is None else timeout_s)

    def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Deliver what is left within a time, and end the thread; whether everything is delivered."""
        if os.getpid() != self._pid:
            self.writer.close(remove=False)
            return False
        return self._shipper.stop(timeout_s)
