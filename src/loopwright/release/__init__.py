"""How a version comes to answer: endpoints and traffic, gates, approvals, rollouts, and the way back.

The face is lazy (PEP 562): the words load at once, the services on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.release.approvals import ApprovalService
    from loopwright.release.checks import check_gate, check_guard, check_plan
    from loopwright.release.decisions import Action, Decision, decide
    from loopwright.release.endpoints import EndpointService
    from loopwright.release.evidence import GateJudge
    from loopwright.release.gates import (
        AnyGate,
        AtLeast,
        AtMost,
        Beats,
        Direction,
        GateEvidence,
        GateVerdict,
        MaxLatency,
        MaxSize,
        Outcome,
        ParityProven,
        Slice,
        Slices,
        judge,
    )
    from loopwright.release.model import (
        Approval,
        ApprovalState,
        Arm,
        Endpoint,
        Guard,
        Limits,
        OnTimeout,
        Quality,
        Rollout,
        RolloutPlan,
        RolloutState,
        RolloutStep,
        Share,
        Stratum,
    )
    from loopwright.release.rollouts import RolloutService
    from loopwright.release.serving import find_served, served_by
    from loopwright.release.strata import STRATUM_S, strata_of

_HOMES = {
    "approvals": ("ApprovalService",),
    "checks": ("check_gate", "check_guard", "check_plan"),
    "decisions": ("Action", "Decision", "decide"),
    "endpoints": ("EndpointService",),
    "evidence": ("GateJudge",),
    "gates": (
        "AnyGate",
        "AtLeast",
        "AtMost",
        "Beats",
        "Direction",
        "GateEvidence",
        "GateVerdict",
        "MaxLatency",
        "MaxSize",
        "Outcome",
        "ParityProven",
        "Slice",
        "Slices",
        "judge",
    ),
    "model": (
        "Approval",
        "ApprovalState",
        "Arm",
        "Endpoint",
        "Guard",
        "Limits",
        "OnTimeout",
        "Quality",
        "Rollout",
        "RolloutPlan",
        "RolloutState",
        "RolloutStep",
        "Share",
        "Stratum",
    ),
    "rollouts": ("RolloutService",),
    "serving": ("find_served", "served_by"),
    "strata": ("STRATUM_S", "strata_of"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "STRATUM_S",
    "Action",
    "AnyGate",
    "Approval",
    "ApprovalService",
    "ApprovalState",
    "Arm",
    "AtLeast",
    "AtMost",
    "Beats",
    "Decision",
    "Direction",
    "Endpoint",
    "EndpointService",
    "GateEvidence",
    "GateJudge",
    "GateVerdict",
    "Guard",
    "Limits",
    "MaxLatency",
    "MaxSize",
    "OnTimeout",
    "Outcome",
    "ParityProven",
    "Quality",
    "Rollout",
    "RolloutPlan",
    "RolloutService",
    "RolloutState",
    "RolloutStep",
    "Share",
    "Slice",
    "Slices",
    "Stratum",
    "check_gate",
    "check_guard",
    "check_plan",
    "decide",
    "find_served",
    "judge",
    "served_by",
    "strata_of",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
