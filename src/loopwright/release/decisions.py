"""What a rollout does next. Pure: a rollout, the evidence and the time in, a decision out.

The loss is compared by an always-valid confidence sequence over all spans since the rollout began, stratified by span;
errors and latency by the spans of the present step, in which the shares do not change. Harm is looked for first, so
that a step can never advance on evidence that also condemns the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from loopwright.release.model import Arm, OnTimeout, Quality, Rollout, RolloutState, Stratum
from loopwright.stats import EventDifference, MeanDifference, SequentialVerdict, Sufficient

NOT_ENOUGH = "not enough evidence"


class Action(StrEnum):
    """What a decision does to the rollout."""

    WAIT = "wait"
    ADVANCE = "advance"
    COMPLETE = "complete"
    HOLD = "hold"
    CLOSE = "close"
    ROLL_BACK = "roll_back"


class Decision(msgspec.Struct, frozen=True):
    """An action, its reason in words, and the numbers behind it."""

    action: Action
    reason: str
    statistics: dict[str, Any] = {}


class _Judged(msgspec.Struct, frozen=True):
    """The comparisons that could be made; None where there was nothing to compare."""

    loss: SequentialVerdict | None
    errors: SequentialVerdict | None
    latency: SequentialVerdict | None
    step_labels: int
    step_requests: int

    def statistics(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {"labels_in_step": self.step_labels, "requests_in_step": self.step_requests}
        for name in ("loss", "errors", "latency"):
            verdict = getattr(self, name)
            if verdict is not None:
                numbers[name] = msgspec.to_builtins(verdict)
        return numbers


def decide(rollout: Rollout, strata: Sequence[Stratum], now: datetime) -> Decision:
    """What the rollout does next.

    Args:
        rollout: where it stands.
        strata: what both versions showed since it began, span by span. A span counts for the step in which it began.
        now: the workspace's time.
    """
    if not rollout.state.active:
        return Decision(Action.WAIT, f"the rollout is {rollout.state.value}")
    if not rollout.control:
        return Decision(Action.COMPLETE, "the endpoint has no version yet: there is nothing to compare with")
    judged = _judge(rollout, strata)
    harm = _harm(rollout, judged)
    if harm:
        return Decision(Action.ROLL_BACK, harm, judged.statistics())
    if rollout.state is RolloutState.GUARDING:
        return _guard(rollout, judged, now)
    missing = _missing(rollout, judged, now)
    if missing:
        return _wait_or_give_up(rollout, judged, missing, now)
    last = rollout.step + 1 >= len(rollout.plan.steps)
    return Decision(Action.COMPLETE if last else Action.ADVANCE, _good(judged), judged.statistics())


def _judge(rollout: Rollout, strata: Sequence[Stratum]) -> _Judged:
    present = [stratum for stratum in strata if stratum.start >= rollout.step_started_at]
    control = total_of([stratum.control for stratum in present])
    candidate = total_of([stratum.candidate for stratum in present])
    if rollout.state is RolloutState.GUARDING and not rollout.guard.holdback:
        control = rollout.control_before
    return _Judged(
        loss=_judge_loss(rollout, strata),
        errors=_judge_errors(rollout, control, candidate),
        latency=_judge_latency(rollout, control, candidate),
        step_labels=candidate.losses.n,
        step_requests=candidate.requests.n,
    )


def total_of(arms: Sequence[Arm]) -> Arm:
    return Arm(
        losses=sum((arm.losses for arm in arms), Sufficient()),
        requests=sum((arm.requests for arm in arms), Sufficient()),
        latency_ms=sum((arm.latency_ms for arm in arms), Sufficient()),
    )


def _judge_loss(rollout: Rollout, strata: Sequence[Stratum]) -> SequentialVerdict | None:
    plan = rollout.plan
    if plan.quality is Quality.NONE:
        return None
    test = MeanDifference(alpha=plan.alpha, focus=max(plan.max_loss_increase, 1e-4))
    return test.judge_strata([(stratum.control.losses, stratum.candidate.losses) for stratum in strata])


def _judge_errors(rollout: Rollout, control: Arm, candidate: Arm) -> SequentialVerdict | None:
    if min(control.requests.n, candidate.requests.n) < rollout.plan.limits.min_requests:
        return None
    return EventDifference(alpha=_alpha_of_a_step(rollout)).judge(control.requests, candidate.requests)


def _judge_latency(rollout: Rollout, control: Arm, candidate: Arm) -> SequentialVerdict | None:
    """The candidate's mean latency against the control's times the ratio that is allowed, in milliseconds."""
    limits = rollout.plan.limits
    if min(control.latency_ms.n, candidate.latency_ms.n) < limits.min_requests:
        return None
    ratio = limits.max_latency_ratio
    allowed = Sufficient(
        control.latency_ms.n, ratio * control.latency_ms.total, ratio * ratio * control.latency_ms.total_squares
    )
    ceiling = max(1.0, 10 * allowed.mean)
    return MeanDifference(alpha=_alpha_of_a_step(rollout), focus=max(0.1, allowed.mean / 4), high=ceiling).judge(
        allowed, candidate.latency_ms
    )


def _alpha_of_a_step(rollout: Rollout) -> float:
    """Errors and latency are judged anew in each step and in the guard's window: they share `alpha`."""
    return rollout.plan.alpha / (len(rollout.plan.steps) + 1)


def _harm(rollout: Rollout, judged: _Judged) -> str:
    """Why the candidate must go, or nothing."""
    plan, limits = rollout.plan, rollout.plan.limits
    if judged.errors is not None and judged.errors.worse_by(limits.max_error_increase):
        return f"more requests fail: {_shown(judged.errors)}; {limits.max_error_increase:g} more is allowed"
    if judged.latency is not None and judged.latency.worse_by(0.0):
        return (
            f"slower than {limits.max_latency_ratio:g} times the control: {_shown(judged.latency)} ms above that limit"
        )
    bound = plan.max_loss_increase if plan.roll_back_loss_increase is None else plan.roll_back_loss_increase
    if judged.loss is not None and _labels(judged.loss) >= plan.min_labels and judged.loss.worse_by(bound):
        return f"the loss is certainly more than {bound:g} above the control's: {_shown(judged.loss)}"
    return ""


def _missing(rollout: Rollout, judged: _Judged, now: datetime) -> str:
    """What the step still lacks, or nothing."""
    step = rollout.plan.step(rollout.step)
    ends_at = rollout.step_started_at + timedelta(seconds=step.min_step_s or 0.0)
    if now < ends_at:
        return f"the step lasts until {ends_at.isoformat()} at least"
    if judged.loss is None:
        if judged.errors is None:
            return f"{judged.step_requests} of {rollout.plan.limits.min_requests} requests"
        return ""
    if judged.step_labels < (step.min_labels or 0):
        return f"{judged.step_labels} of {step.min_labels} labels in this step"
    margin = rollout.plan.max_loss_increase if step.max_loss_increase is None else step.max_loss_increase
    if not judged.loss.not_worse_by(margin):
        return f"a loss {margin:g} above the control's is not ruled out: {_shown(judged.loss)}"
    return ""


def _wait_or_give_up(rollout: Rollout, judged: _Judged, missing: str, now: datetime) -> Decision:
    plan = rollout.plan
    if now < rollout.step_started_at + timedelta(seconds=plan.max_step_s):
        return Decision(Action.WAIT, missing, judged.statistics())
    reason = f"{NOT_ENOUGH} after {_span(plan.max_step_s)} at a share of {rollout.share:.0%}: {missing}"
    if plan.on_timeout is OnTimeout.ROLL_BACK:
        return Decision(Action.ROLL_BACK, reason, judged.statistics())
    held = rollout.state is RolloutState.HELD
    return Decision(Action.WAIT if held else Action.HOLD, reason, judged.statistics())


def _guard(rollout: Rollout, judged: _Judged, now: datetime) -> Decision:
    if now < rollout.step_started_at + timedelta(seconds=rollout.guard.duration_s):
        return Decision(Action.WAIT, "the guard watches", judged.statistics())
    return Decision(Action.CLOSE, "the guard's time is over and nothing spoke against it", judged.statistics())


def _good(judged: _Judged) -> str:
    if judged.loss is None:
        return f"no more errors than allowed in {judged.step_requests} requests"
    word = "certainly better than" if judged.loss.upper < 0 else "certainly not worse by the margin than"
    return f"{word} the control: {_shown(judged.loss)}"


def _labels(verdict: SequentialVerdict) -> int:
    return min(verdict.n_a, verdict.n_b)


def _shown(verdict: SequentialVerdict) -> str:
    return (
        f"difference {verdict.estimate:+.4f}, always-valid {1 - verdict.alpha:.1%} interval "
        f"{verdict.lower:+.4f} to {verdict.upper:+.4f} (n {verdict.n_a} and {verdict.n_b})"
    )


def _span(seconds: float) -> str:
    """A length of time as a person says it."""
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} s"
