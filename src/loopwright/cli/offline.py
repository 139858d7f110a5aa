"""What a command can still tell of runs when their server does not answer: what waits in the spools of this machine."""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core import NotFound, Operation, Unavailable

_READS = ("runs.get", "runs.history")


def from_spools(operation: Operation, request: msgspec.Struct, where: str | None, error: Unavailable) -> Any:
    """The answer to an operation from this machine's spools.

    Raises:
        Unavailable: they do not hold it.
    """
    if operation.name not in _READS:
        raise error
    from loopwright.recording import spool_roots
    from loopwright.track import OfflineRuns

    runs = OfflineRuns(spool_roots(where))
    try:
        return operation.call(_Reader(runs), request)
    except NotFound:
        raise error from None


class _Reader:
    """Operations as methods, as a service has them; what only a workspace can judge by is left out."""

    def __init__(self, runs: Any) -> None:
        self._runs = runs

    def get(self, run: str) -> Any:
        return self._runs.get(run)

    def history(self, run: str, key: str, **_bounds: Any) -> Any:
        return self._runs.history(run, key)
