"""Where the circle closes: loops, what triggers them, and the controller that runs them for ever.

The face is lazy (PEP 562): the words load at once, the service and the controller on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.loop.clock import WorkspaceClock, workspace_clock
    from loopwright.loop.controller import Controller
    from loopwright.loop.declare import check_loop, every, load_loops, manual, on_alert, on_new_version
    from loopwright.loop.model import (
        AnyTrigger,
        ApprovalPolicy,
        Every,
        Loop,
        LoopInfo,
        LoopOutcome,
        LoopRun,
        LoopState,
        Manual,
        OnAlert,
        OnNewVersion,
        Settled,
    )
    from loopwright.loop.scoring.carrying import carry_out
    from loopwright.loop.scoring.declare import check_job, load_scoring_jobs
    from loopwright.loop.scoring.model import ScoringJob, ScoringJobInfo, ScoringRun, ScoringState, watched_name
    from loopwright.loop.scoring.service import ScoringJobService
    from loopwright.loop.service import LoopService
    from loopwright.loop.status import LoopStatus

_HOMES = {
    "clock": ("WorkspaceClock", "workspace_clock"),
    "controller": ("Controller",),
    "declare": ("check_loop", "every", "load_loops", "manual", "on_alert", "on_new_version"),
    "model": (
        "AnyTrigger",
        "ApprovalPolicy",
        "Every",
        "Loop",
        "LoopInfo",
        "LoopOutcome",
        "LoopRun",
        "LoopState",
        "Manual",
        "OnAlert",
        "OnNewVersion",
        "Settled",
    ),
    "scoring.carrying": ("carry_out",),
    "scoring.declare": ("check_job", "load_scoring_jobs"),
    "scoring.model": ("ScoringJob", "ScoringJobInfo", "ScoringRun", "ScoringState", "watched_name"),
    "scoring.service": ("ScoringJobService",),
    "service": ("LoopService",),
    "status": ("LoopStatus",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AnyTrigger",
    "ApprovalPolicy",
    "Controller",
    "Every",
    "Loop",
    "LoopInfo",
    "LoopOutcome",
    "LoopRun",
    "LoopService",
    "LoopState",
    "LoopStatus",
    "Manual",
    "OnAlert",
    "OnNewVersion",
    "ScoringJob",
    "ScoringJobInfo",
    "ScoringJobService",
    "ScoringRun",
    "ScoringState",
    "Settled",
    "WorkspaceClock",
    "carry_out",
    "check_job",
    "check_loop",
    "every",
    "load_loops",
    "load_scoring_jobs",
    "manual",
    "on_alert",
    "on_new_version",
    "watched_name",
    "workspace_clock",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
