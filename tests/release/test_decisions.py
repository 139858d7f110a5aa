"""What a rollout decides on given evidence; and how often it is wrong on evidence that is drawn at random."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Invalid
from loopwright.release import (
    Action,
    Arm,
    Guard,
    Limits,
    OnTimeout,
    Quality,
    Rollout,
    RolloutPlan,
    RolloutState,
    RolloutStep,
    Stratum,
    check_guard,
    check_plan,
    decide,
)
from loopwright.stats import Sufficient

START = datetime(2013, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def rollout(plan: RolloutPlan | None = None, **changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "id": "0" * 32,
        "project": "default",
        "endpoint": "delay",
        "control": "model:delay@1",
        "candidate": "model:delay@2",
        "plan": plan or RolloutPlan(),
        "guard": Guard(),
        "state": RolloutState.RUNNING,
        "step": 0,
        "share": 0.05,
        "started_at": START,
        "step_started_at": START,
        "starts": (START,),
    }
    return Rollout(**{**values, **changes})


def arm(loss: float, n: int, errors: int = 0, latency: float = 1.0, spread: float = 0.15) -> Arm:
    squares = n * (loss * loss + spread * spread)
    return Arm(
        Sufficient(n, n * loss, squares),
        Sufficient.of_events(n, errors),
        Sufficient(n, n * latency, n * (latency * latency + 0.04)),
    )


def day(number: int, control: Arm, candidate: Arm) -> Stratum:
    return Stratum(START + number * DAY, control, candidate)


def test_it_waits_while_little_is_known() -> None:
    decision = decide(rollout(), [day(0, arm(0.2, 500), arm(0.2, 30))], START + DAY)
    assert decision.action is Action.WAIT
    assert "30 of 200 labels" in decision.reason


def test_it_advances_when_the_margin_is_ruled_out_and_completes_after_the_last_step() -> None:
    evidence = [day(0, arm(0.2, 40_000), arm(0.198, 40_000))]
    assert decide(rollout(), evidence, START + DAY).action is Action.ADVANCE
    decision = decide(rollout(step=2, share=0.5), evidence, START + DAY)
    assert decision.action is Action.COMPLETE
    assert decision.statistics["loss"]["upper"] < 0.02


def test_it_rolls_back_when_the_candidate_is_certainly_worse() -> None:
    decision = decide(rollout(), [day(0, arm(0.2, 5000), arm(0.3, 5000))], START + DAY)
    assert decision.action is Action.ROLL_BACK
    assert "certainly more than 0.02" in decision.reason
    assert decision.statistics["loss"]["lower"] > 0.02


def test_a_stricter_bound_rolls_back_before_the_margin_is_passed() -> None:
    evidence = [day(0, arm(0.2, 60_000), arm(0.21, 60_000))]
    assert decide(rollout(), evidence, START + DAY).action is Action.ADVANCE
    strict = rollout(RolloutPlan(roll_back_loss_increase=0.0))
    assert decide(strict, evidence, START + DAY).action is Action.ROLL_BACK


def test_a_harder_day_with_another_share_does_not_look_like_harm() -> None:
    quiet = day(0, arm(0.1, 9500), arm(0.1, 500))
    storm = day(1, arm(0.4, 5000), arm(0.4, 5000))
    decision = decide(rollout(step=1, step_started_at=START + DAY, share=0.5), [quiet, storm], START + 2 * DAY)
    assert abs(decision.statistics["loss"]["estimate"]) < 1e-9
    assert decision.action is Action.ADVANCE


def test_labels_of_an_earlier_step_do_not_count_for_this_one() -> None:
    earlier = day(0, arm(0.2, 40_000), arm(0.2, 40_000))
    decision = decide(rollout(step=1, step_started_at=START + DAY, share=0.25), [earlier], START + DAY)
    assert decision.action is Action.WAIT
    assert "0 of 200 labels" in decision.reason


def test_more_errors_roll_back_without_any_label() -> None:
    control = Arm(requests=Sufficient.of_events(5000, 5))
    candidate = Arm(requests=Sufficient.of_events(2000, 200))
    decision = decide(rollout(), [day(0, control, candidate)], START)
    assert decision.action is Action.ROLL_BACK
    assert "more requests fail" in decision.reason


def test_a_candidate_that_is_far_slower_is_rolled_back() -> None:
    decision = decide(rollout(), [day(0, arm(0.2, 3000, latency=1.0), arm(0.2, 3000, latency=9.0))], START)
    assert decision.action is Action.ROLL_BACK
    assert "slower than 2 times" in decision.reason


def test_twice_as_slow_is_within_the_limit() -> None:
    decision = decide(rollout(), [day(0, arm(0.2, 3000, latency=1.0), arm(0.2, 3000, latency=1.9))], START)
    assert decision.action is not Action.ROLL_BACK


@pytest.mark.parametrize(("policy", "action"), [("roll_back", Action.ROLL_BACK), ("hold", Action.HOLD)])
def test_a_step_without_enough_evidence_ends_as_the_policy_says(policy: str, action: Action) -> None:
    plan = RolloutPlan(on_timeout=OnTimeout(policy), max_step_s=86_400)
    evidence = [day(0, arm(0.2, 900), arm(0.2, 50))]
    assert decide(rollout(plan), evidence, START + DAY / 2).action is Action.WAIT
    decision = decide(rollout(plan), evidence, START + DAY)
    assert decision.action is action
    assert decision.reason.startswith("not enough evidence")


def test_a_held_rollout_goes_on_judging() -> None:
    plan = RolloutPlan(on_timeout=OnTimeout.HOLD, max_step_s=1)
    held = rollout(plan, state=RolloutState.HELD)
    assert decide(held, [day(0, arm(0.2, 900), arm(0.2, 50))], START + DAY).action is Action.WAIT
    assert decide(held, [day(0, arm(0.2, 5000), arm(0.3, 5000))], START + DAY).action is Action.ROLL_BACK
    assert decide(held, [day(0, arm(0.2, 40_000), arm(0.2, 40_000))], START + DAY).action is Action.ADVANCE


def test_a_step_lasts_its_least_time() -> None:
    plan = RolloutPlan(steps=(RolloutStep(0.05, min_step_s=3 * 86_400), 0.5))
    evidence = [day(0, arm(0.2, 40_000), arm(0.2, 40_000))]
    assert decide(rollout(plan), evidence, START + 2 * DAY).action is Action.WAIT
    assert decide(rollout(plan), evidence, START + 3 * DAY).action is Action.ADVANCE


def test_the_first_version_has_nothing_to_compare_with() -> None:
    assert decide(rollout(control=""), [], START).action is Action.COMPLETE


def test_the_guard_watches_errors_and_closes_when_nothing_spoke_against_it() -> None:
    guarding = rollout(state=RolloutState.GUARDING, share=1.0, control_before=arm(0.2, 5000, errors=5))
    assert decide(guarding, [day(0, Arm(), arm(0.2, 5000, errors=6))], START + DAY / 2).action is Action.WAIT
    assert decide(guarding, [day(0, Arm(), arm(0.2, 5000, errors=6))], START + DAY).action is Action.CLOSE
    assert decide(guarding, [day(0, Arm(), arm(0.2, 5000, errors=900))], START).action is Action.ROLL_BACK


def test_a_holdback_lets_the_guard_compare_losses() -> None:
    guarding = rollout(state=RolloutState.GUARDING, share=0.9, guard=Guard(holdback=0.1))
    assert decide(guarding, [day(0, arm(0.2, 2000), arm(0.35, 18_000))], START).action is Action.ROLL_BACK


def test_without_labels_a_plan_may_judge_errors_alone() -> None:
    plan = RolloutPlan(quality=Quality.NONE, limits=Limits(min_requests=100))
    few = [day(0, Arm(requests=Sufficient(500)), Arm(requests=Sufficient(50)))]
    many = [day(0, Arm(requests=Sufficient(5000)), Arm(requests=Sufficient(500)))]
    assert decide(rollout(plan), few, START).action is Action.WAIT
    assert decide(rollout(plan), many, START).action is Action.ADVANCE


@pytest.mark.parametrize("state", [RolloutState.COMPLETED, RolloutState.ROLLED_BACK])
def test_a_rollout_that_is_over_decides_nothing(state: RolloutState) -> None:
    assert decide(rollout(state=state), [day(0, arm(0.2, 5000), arm(0.9, 5000))], START).action is Action.WAIT


@given(
    n=st.integers(0, 20_000),
    loss=st.floats(0.05, 0.9),
    worse=st.floats(0, 0.5),
    step=st.integers(0, 2),
    hours=st.integers(0, 24 * 30),
)
def test_more_harm_never_turns_a_roll_back_into_an_advance(
    n: int, loss: float, worse: float, step: int, hours: int
) -> None:
    now = START + timedelta(hours=hours)
    at = rollout(step=step, share=(0.05, 0.25, 0.5)[step])
    mild = decide(at, [day(0, arm(loss, n), arm(min(1.0, loss + worse / 2), n))], now).action
    grave = decide(at, [day(0, arm(loss, n), arm(min(1.0, loss + worse), n))], now).action
    good = {Action.ADVANCE, Action.COMPLETE}
    assert not (mild is Action.ROLL_BACK and grave in good)
    assert msgspec.json.encode(decide(at, [], now).statistics)


def simulate(rng: np.random.Generator, control: float, candidate: float, plan: RolloutPlan) -> RolloutState:
    """A rollout of Bernoulli-like losses (beta distributed), 800 requests a day, looked at daily."""
    current, strata = rollout(plan, share=plan.step(0).share), []
    for number in range(200):
        taken = rng.binomial(800, current.share)
        drawn = [
            rng.beta(mean * 4, (1 - mean) * 4, size) for mean, size in ((control, 800 - taken), (candidate, taken))
        ]
        arms = [Arm(Sufficient.of(losses), Sufficient(len(losses))) for losses in drawn]
        strata.append(day(number, *arms))
        now = START + (number + 1) * DAY
        match decide(current, strata, now).action:
            case Action.ADVANCE:
                step = current.step + 1
                current = msgspec.structs.replace(current, step=step, share=plan.step(step).share, step_started_at=now)
            case Action.COMPLETE:
                return RolloutState.COMPLETED
            case Action.ROLL_BACK:
                return RolloutState.ROLLED_BACK
            case _:
                pass
    return current.state


@pytest.mark.slow
def test_looking_every_day_keeps_the_rate_of_false_alarms() -> None:
    rng = np.random.default_rng(20130701)
    plan = RolloutPlan(max_loss_increase=0.02, roll_back_loss_increase=0.0, min_labels=50, max_step_s=1e9)
    ends = [simulate(rng, 0.2, 0.2, plan) for _ in range(150)]
    # With alpha 0.05 in two sides, false roll-backs are below 2.5 %; 11 of 150 has a chance below 0.1 % at that rate.
    assert ends.count(RolloutState.ROLLED_BACK) <= 10
    assert ends.count(RolloutState.COMPLETED) >= 130


@pytest.mark.slow
def test_a_candidate_beyond_the_margin_hardly_ever_completes() -> None:
    rng = np.random.default_rng(20130702)
    plan = RolloutPlan(max_loss_increase=0.02, min_labels=50, max_step_s=1e9)
    ends = [simulate(rng, 0.2, 0.225, plan) for _ in range(100)]
    assert ends.count(RolloutState.COMPLETED) <= 8
    broken = [simulate(rng, 0.2, 0.3, plan) for _ in range(50)]
    assert broken.count(RolloutState.ROLLED_BACK) == 50


@pytest.mark.parametrize(
    ("plan", "where"),
    [
        (RolloutPlan(steps=()), "p.steps"),
        (RolloutPlan(steps=(0.5, 0.25)), "p.steps[1]"),
        (RolloutPlan(steps=(0.05, 1.0)), "p.steps[1]"),
        (RolloutPlan(alpha=0.0), "p.alpha"),
        (RolloutPlan(max_loss_increase=0.0), "p.max_loss_increase"),
        (RolloutPlan(max_step_s=0.0), "p.max_step_s"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused_by_field(plan: RolloutPlan, where: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_plan(plan, "p")
    assert raised.value.where == where


def test_a_guard_that_cannot_watch_is_refused() -> None:
    with pytest.raises(Invalid, match="holdback"):
        check_guard(Guard(holdback=0.7), "g")
