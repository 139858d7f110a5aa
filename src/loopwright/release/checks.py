"""Whether a gate or a plan makes sense, said before it is kept; each message names the field and the next step."""

from __future__ import annotations

from loopwright.core import Invalid, check_name, parse_ref
from loopwright.release.gates import (
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    AnyGate,
    AtLeast,
    AtMost,
    Beats,
    MaxLatency,
    MaxSize,
    Slices,
    direction_of,
)
from loopwright.release.model import Guard, RolloutPlan

_REFERENCES = ("champion", "baseline")


def check_gate(gate: AnyGate, where: str) -> AnyGate:
    """`gate`, if it can be judged.

    Raises:
        Invalid: an unknown reference or metric direction, or a number out of range.
    """
    match gate:
        case Beats():
            _check_reference(gate.against, f"{where}.against")
            _check_name(gate.metric, f"{where}.metric")
            if direction_of(gate) is None:
                known = ", ".join(sorted(HIGHER_IS_BETTER | LOWER_IS_BETTER))
                raise Invalid(
                    f"nobody knows which way {gate.metric!r} is better",
                    where=f"{where}.direction",
                    next_step=f"write direction: higher or lower (known: {known})",
                )
        case AtLeast() | AtMost():
            _check_name(gate.metric, f"{where}.metric")
        case MaxLatency():
            _between(gate.quantile, 0, 1, f"{where}.quantile")
            _above(gate.milliseconds, 0, f"{where}.milliseconds")
        case MaxSize():
            _above(gate.size_bytes, 0, f"{where}.size_bytes")
        case Slices():
            _check_reference(gate.against, f"{where}.against", allowed=("champion",))
            if not gate.columns:
                raise Invalid("no columns", where=f"{where}.columns", next_step="name the columns to slice by")
        case _:
            return gate
    alpha = getattr(gate, "alpha", None)
    if alpha is not None:
        _between(alpha, 0, 0.5, f"{where}.alpha")
    return gate


def check_plan(plan: RolloutPlan, where: str) -> RolloutPlan:
    """`plan`, if a rollout can follow it.

    Raises:
        Invalid: shares that do not grow between 0 and 1, or a number out of range.
    """
    if not plan.steps:
        raise Invalid("no steps", where=f"{where}.steps", next_step="write shares such as [0.05, 0.25, 0.5]")
    before = 0.0
    for index in range(len(plan.steps)):
        share = plan.step(index).share
        if not before < share < 1:
            raise Invalid(
                f"a share of {share:g} cannot follow {before:g}",
                where=f"{where}.steps[{index}]",
                next_step="write growing shares below 1; after the last step the candidate takes all",
            )
        before = share
    _between(plan.alpha, 0, 0.5, f"{where}.alpha")
    _above(plan.max_loss_increase, 0, f"{where}.max_loss_increase")
    _above(plan.max_step_s, plan.min_step_s, f"{where}.max_step_s")
    _above(plan.limits.max_latency_ratio, 0, f"{where}.limits.max_latency_ratio")
    return plan


def check_guard(guard: Guard, where: str) -> Guard:
    """`guard`, if a release can be watched so.

    Raises:
        Invalid: a negative duration, or a holdback outside 0 to 0.5.
    """
    if guard.duration_s < 0:
        raise Invalid(f"{guard.duration_s:g} s", where=f"{where}.duration_s", next_step="write 0 or more seconds")
    if not 0 <= guard.holdback < 0.5:
        raise Invalid(
            f"a holdback of {guard.holdback:g}",
            where=f"{where}.holdback",
            next_step="write a share from 0 to below 0.5",
        )
    return guard


def _check_reference(against: str, where: str, allowed: tuple[str, ...] = _REFERENCES) -> None:
    if against in allowed:
        return
    try:
        parse_ref(against, "model")
    except Invalid as error:
        step = f"write {', '.join(allowed)}, or a model ref such as model:delay@3"
        raise Invalid(error.message, where=where, next_step=step) from None


def _check_name(name: str, where: str) -> None:
    try:
        check_name("metric", name)
    except Invalid as error:
        raise Invalid(error.message, where=where, next_step=error.next_step) from None


def _between(value: float, low: float, high: float, where: str) -> None:
    if not low < value < high:
        raise Invalid(f"{value:g} is not between {low:g} and {high:g}", where=where)


def _above(value: float, low: float, where: str) -> None:
    if not value > low:
        raise Invalid(f"{value:g} is not above {low:g}", where=where)
