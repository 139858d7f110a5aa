"""Which training is the outermost: what happens inside of another one is part of it.

Trainings inside of each other are in one thread, or in worker threads of joblib. A worker belongs to a training that
is open in another thread at a lower level of joblib's nesting; so the trainings that a program runs side by side with
joblib stay on their own.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.track.autolog.calls import Training


class Nest(threading.local):
    """The trainings that are open in this thread, the innermost last."""

    def __init__(self) -> None:
        self.open: list[Training | None] = []


nest = Nest()
_levels: dict[tuple[int, int], int] = {}


def enter(training: Training | None) -> None:
    """A training, or something that hides trainings, begins in this thread."""
    if not nest.open:
        _levels[os.getpid(), threading.get_ident()] = _level()
    nest.open.append(training)


def leave() -> None:
    """It ends."""
    nest.open.pop()
    if not nest.open:
        _levels.pop((os.getpid(), threading.get_ident()), None)


def is_worker() -> bool:
    """Whether this thread works for a training of another thread."""
    level = _level()
    if not level or not _levels:
        return False
    pid = os.getpid()
    return any(other < level for (process, _), other in list(_levels.items()) if process == pid)


def _level() -> int:
    """How deep inside of joblib's parallel calls this thread is; 0 outside."""
    joblib: Any = sys.modules.get("joblib.parallel")
    if joblib is None:
        return 0
    try:
        backend, _ = joblib.get_active_backend()
        return int(getattr(backend, "nesting_level", 0) or 0)
    except Exception:  # noqa: BLE001 - another joblib than we know counts as none
        return 0
