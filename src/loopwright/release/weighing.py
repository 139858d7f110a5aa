"""A rollout weighed on what the monitors counted."""

from __future__ import annotations

from loopwright.core import Scope
from loopwright.models import ModelService
from loopwright.monitor import MonitorService
from loopwright.release.decisions import Decision, decide
from loopwright.release.model import Rollout, Stratum
from loopwright.release.strata import STRATUM_S, strata_of
from loopwright.store import Stores


def weigh(stores: Stores, scope: Scope, models: ModelService, rollout: Rollout) -> tuple[Decision, list[Stratum]]:
    """What is to be done with a rollout now, and the evidence for it. Nothing is changed.

    Raises:
        Unavailable: the database does not answer.
    """
    refs = [model for model in (rollout.control, rollout.candidate) if model]
    evidence = MonitorService(stores, scope, models=models).evidence(
        rollout.endpoint, rollout.started_at, refs, span_s=STRATUM_S, cuts=rollout.starts
    )
    strata = strata_of(rollout, {arm.model: arm for arm in evidence})
    return decide(rollout, strata, stores.clock.now()), strata
