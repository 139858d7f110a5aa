"""From what the monitors counted to the spans in which two versions are compared. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loopwright.release.model import Arm, Rollout, Stratum

if TYPE_CHECKING:
    from loopwright.monitor import ArmEvidence, ArmSpan

# Long enough that a small share has labels on both sides, short enough that a day's weather hits both alike.
STRATUM = timedelta(days=1)


def strata_of(rollout: Rollout, evidence: Mapping[str, ArmEvidence]) -> list[Stratum]:
    """What both versions showed, day by day since each change of share, oldest first.

    A day never reaches over a change of share. What lies before the rollout's start is left out.

    Args:
        rollout: whose versions.
        evidence: by model ref; spans are finer than a day.
    """
    control = _by_stratum(rollout.starts, evidence.get(rollout.control))
    candidate = _by_stratum(rollout.starts, evidence.get(rollout.candidate))
    return [
        Stratum(start, control.get(start, Arm()), candidate.get(start, Arm()))
        for start in sorted(control.keys() | candidate.keys())
    ]


def _by_stratum(starts: Sequence[datetime], evidence: ArmEvidence | None) -> dict[datetime, Arm]:
    found: dict[datetime, Arm] = {}
    for span in evidence.spans if evidence is not None else ():
        place = bisect_right(starts, span.start) - 1
        if place >= 0:
            start = starts[place] + (span.start - starts[place]) // STRATUM * STRATUM
            found[start] = _add(found.get(start, Arm()), span)
    return found


def _add(arm: Arm, span: ArmSpan) -> Arm:
    return Arm(arm.losses + span.losses, arm.requests + span.requests, arm.latency_ms + span.latency_ms)
