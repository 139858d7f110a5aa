"""From what the monitors counted to the spans in which two versions are compared. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopwright.release.model import Arm, Rollout, Stratum

if TYPE_CHECKING:
    from datetime import datetime

    from loopwright.monitor import ArmEvidence, ArmSpan

# Long enough that a small share has labels on both sides, short enough that a day's weather hits both alike.
STRATUM_S = 86_400.0


def strata_of(rollout: Rollout, evidence: Mapping[str, ArmEvidence]) -> list[Stratum]:
    """What both versions showed, span by span, oldest first.

    Args:
        rollout: whose versions.
        evidence: by model ref, in spans of `STRATUM_S` that are cut where the rollout's shares changed
            (`rollout.starts`), so that both versions have the same spans.
    """
    control = _by_start(evidence.get(rollout.control))
    candidate = _by_start(evidence.get(rollout.candidate))
    return [
        Stratum(start, _arm(control.get(start)), _arm(candidate.get(start)))
        for start in sorted(control.keys() | candidate.keys())
    ]


def _by_start(evidence: ArmEvidence | None) -> dict[datetime, ArmSpan]:
    return {span.start: span for span in evidence.spans} if evidence is not None else {}


def _arm(span: ArmSpan | None) -> Arm:
    return Arm(span.losses, span.requests, span.latency_ms) if span is not None else Arm()
