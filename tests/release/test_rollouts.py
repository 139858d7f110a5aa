"""Rollouts: every decision moves traffic, tells its cause, and is taken once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.release.test_decisions import START, rollout
from tests.release.world import World

from loopwright.core import Conflict, Invalid, NotFound
from loopwright.monitor import MonitorService
from loopwright.release import (
    STRATUM_S,
    Action,
    Arm,
    Decision,
    Guard,
    Rollout,
    RolloutPlan,
    RolloutState,
    Stratum,
    decide,
    strata_of,
)
from loopwright.release.steps import next_state
from loopwright.stats import Sufficient
from loopwright.store import metadata

GOOD = "the evidence is good"


def begun(world: World, **plan: Any) -> Rollout:
    world.endpoints.create("delay", world.register("weak").ref)
    return world.rollouts.start("delay", world.register("strong").ref, RolloutPlan(**plan))


def test_the_first_release_takes_all_traffic_and_becomes_champion(world: World) -> None:
    version = world.register("weak")
    world.endpoints.create("delay", "delay")
    started = world.rollouts.start("delay", version.ref)
    assert world.served() == {version.ref: 1.0}
    done = world.rollouts.apply(started, decide(started, [], world.stores.clock.now()))
    assert done.state is RolloutState.COMPLETED
    assert world.endpoints.get("delay").stable == version.ref
    assert world.models.resolve("model:delay@champion") == version.ref


def test_a_rollout_goes_up_step_by_step_to_the_guard_and_the_end(world: World) -> None:
    current = begun(world, steps=(0.1, 0.5))
    control, candidate = current.control, current.candidate
    assert world.served() == {candidate: 0.1, control: 0.9}
    current = world.rollouts.apply(current, Decision(Action.ADVANCE, GOOD))
    assert world.served() == {candidate: 0.5, control: 0.5}
    assert world.models.resolve("model:delay@champion") == control
    current = world.rollouts.apply(current, Decision(Action.COMPLETE, GOOD))
    assert current.state is RolloutState.GUARDING
    assert world.served() == {candidate: 1.0}
    assert world.models.resolve("model:delay@champion") == candidate
    current = world.rollouts.apply(current, Decision(Action.CLOSE, GOOD))
    assert current.state is RolloutState.COMPLETED
    assert world.rollouts.get(current.id) == current
    assert world.endpoints.get("delay").rollout == ""
    assert world.kinds("rollout.") == ["rollout.started", "rollout.advanced", "rollout.completed", "rollout.closed"]


def test_each_event_of_a_rollout_is_caused_by_the_one_before(small_world: World) -> None:
    current = begun(small_world)
    for action in (Action.ADVANCE, Action.ADVANCE, Action.COMPLETE, Action.CLOSE):
        current = small_world.rollouts.apply(current, Decision(action, GOOD, {"loss": {"lower": -0.1}}))
    events = [event for event in small_world.stores.events.read() if event.kind.startswith("rollout.")]
    assert [event.cause for event in events[1:]] == [event.ref for event in events[:-1]]
    assert {event.subject for event in events} == {f"rollout:{current.id}"}
    assert all(event.evidence["statistics"] == {"loss": {"lower": -0.1}} for event in events[1:])
    traffic = [event for event in small_world.stores.events.read() if event.kind == "endpoint.traffic_set"]
    assert traffic[1].cause == events[0].ref


@pytest.mark.parametrize("steps_before", [0, 1, 3])
def test_a_candidate_is_taken_back_from_anywhere(world: World, steps_before: int) -> None:
    current = begun(world)
    for action in (Action.ADVANCE, Action.ADVANCE, Action.COMPLETE)[:steps_before]:
        current = world.rollouts.apply(current, Decision(action, GOOD))
    done = world.rollouts.apply(current, Decision(Action.ROLL_BACK, "it is worse"))
    assert (done.state, done.share, done.reason) == (RolloutState.ROLLED_BACK, 0.0, "it is worse")
    assert world.served() == {current.control: 1.0}
    assert world.endpoints.get("delay").stable == current.control
    assert world.models.resolve("model:delay@champion") == current.control


def test_a_holdback_stays_with_the_control_until_the_guard_ends(small_world: World) -> None:
    small_world.endpoints.create("delay", small_world.register("weak").ref)
    candidate = small_world.register("strong").ref
    current = small_world.rollouts.start("delay", candidate, RolloutPlan(steps=(0.5,)), Guard(holdback=0.05))
    current = small_world.rollouts.apply(current, Decision(Action.COMPLETE, GOOD))
    assert small_world.served() == {candidate: 0.95, current.control: 0.05}
    small_world.rollouts.apply(current, Decision(Action.CLOSE, GOOD))
    assert small_world.served() == {candidate: 1.0}


def test_a_hold_keeps_the_traffic_as_it_is(small_world: World) -> None:
    current = begun(small_world)
    before = small_world.served()
    held = small_world.rollouts.apply(current, Decision(Action.HOLD, "not enough evidence"))
    assert held.state is RolloutState.HELD
    assert small_world.served() == before
    assert small_world.rollouts.apply(held, Decision(Action.ADVANCE, GOOD)).state is RolloutState.RUNNING


def test_one_endpoint_has_one_rollout_at_a_time(world: World) -> None:
    current = begun(world)
    other = world.register("broken").ref
    with pytest.raises(Conflict, match="is under way"):
        world.rollouts.start("delay", other)
    with pytest.raises(Conflict, match="decides over the traffic"):
        world.endpoints.set_traffic("delay", {other: 1.0})
    world.rollouts.roll_back(current.id)
    assert world.rollouts.start("delay", other).state is RolloutState.RUNNING


def test_a_decision_is_carried_out_once_however_many_take_it(world: World) -> None:
    current = begun(world)

    def carry_out(_: int) -> int:
        try:
            world.rollouts.apply(current, Decision(Action.ADVANCE, GOOD))
        except Conflict:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(carry_out, range(8))) == 1
    assert world.kinds("rollout.") == ["rollout.started", "rollout.advanced"]
    assert world.rollouts.get(current.id).step == 1


def test_a_person_may_advance_and_roll_back(small_world: World) -> None:
    current = begun(small_world, steps=(0.5,))
    assert small_world.rollouts.advance(current.id, "I looked at it").state is RolloutState.GUARDING
    with pytest.raises(Conflict, match="no step left"):
        small_world.rollouts.advance(current.id)
    assert small_world.rollouts.roll_back(current.id).reason == "rolled back by hand"
    with pytest.raises(Conflict, match="rolled_back already"):
        small_world.rollouts.roll_back(current.id)


def test_a_release_can_be_undone_after_its_end_one_by_one(small_world: World) -> None:
    first = begun(small_world, steps=(0.5,))
    for action in (Action.COMPLETE, Action.CLOSE):
        first = small_world.rollouts.apply(first, Decision(action, GOOD))
    second = small_world.rollouts.start("delay", small_world.register("broken").ref, RolloutPlan(steps=(0.5,)))
    for action in (Action.COMPLETE, Action.CLOSE):
        second = small_world.rollouts.apply(second, Decision(action, GOOD))
    assert small_world.endpoints.roll_back("delay").stable == first.candidate
    assert small_world.rollouts.get(second.id).state is RolloutState.ROLLED_BACK
    assert small_world.endpoints.roll_back("delay").stable == first.control
    assert small_world.served() == {first.control: 1.0}
    assert small_world.kinds("rollout.rolled_back") == ["rollout.rolled_back"] * 2


def test_undoing_while_a_rollout_is_under_way_ends_it(small_world: World) -> None:
    current = begun(small_world)
    assert small_world.endpoints.roll_back("delay").stable == current.control
    assert small_world.rollouts.get(current.id).state is RolloutState.ROLLED_BACK


def test_the_stable_version_cannot_be_rolled_out_again(small_world: World) -> None:
    version = small_world.register("weak").ref
    small_world.endpoints.create("delay", version)
    with pytest.raises(Conflict, match="has the traffic"):
        small_world.rollouts.start("delay", version)


def test_bad_plans_and_unknown_things_are_refused(small_world: World) -> None:
    small_world.endpoints.create("delay", small_world.register("weak").ref)
    candidate = small_world.register("strong").ref
    with pytest.raises(Invalid, match=r"plan.steps\[1\]"):
        small_world.rollouts.start("delay", candidate, RolloutPlan(steps=(0.5, 0.4)))
    with pytest.raises(NotFound):
        small_world.rollouts.start("delay", "model:delay@9")
    with pytest.raises(NotFound, match="no rollout"):
        small_world.rollouts.get("0" * 32)
    assert small_world.rollouts.list() == []
    assert small_world.served() == {"model:delay@1": 1.0}


def test_rollouts_are_listed_newest_first_in_pages(small_world: World) -> None:
    done = []
    small_world.endpoints.create("delay", small_world.register("weak").ref)
    for kind in ("strong", "broken"):
        started = small_world.rollouts.start("delay", small_world.register(kind).ref)
        done.append(small_world.rollouts.roll_back(started.id).id)
    assert [each.id for each in small_world.rollouts.list()] == done[::-1]
    assert [each.id for each in small_world.rollouts.list(limit=1, after=done[1])] == done[:1]
    assert small_world.rollouts.list(active=True) == []


def test_approvals_are_decided_once(world: World) -> None:
    with world.stores.db.begin() as tx:
        asked = world.approvals.request(tx, subject="looprun:x", model="model:delay@2", endpoint="delay", evidence={})
    assert [each.id for each in world.approvals.list()] == [asked.id]
    granted = world.approvals.grant(asked.id, "looks fine")
    assert (granted.state.value, granted.decided_by, granted.reason) == ("granted", "user:local", "looks fine")
    assert world.approvals.grant(f"approval:{asked.id}") == granted
    with pytest.raises(Conflict, match="was granted already"):
        world.approvals.deny(asked.id)
    events = [event for event in world.stores.events.read() if event.kind.startswith("approval.")]
    assert [event.kind for event in events] == ["approval.requested", "approval.granted"]
    assert events[1].cause == events[0].ref
    with pytest.raises(NotFound):
        world.approvals.get("0" * 32)


def slot(model: str, at: datetime, losses: int) -> dict[str, object]:
    return {
        "project": "default",
        "endpoint": "delay",
        "start": at,
        "model": model,
        "rows": losses,
        "errors": 0,
        "latency_n": losses,
        "latency_ms": 1.0 * losses,
        "latency_ms_squared": 1.0 * losses,
        "labels": losses,
        "loss": 0.2 * losses,
        "loss_squared": 0.1 * losses,
    }


def test_evidence_comes_in_days_that_end_where_the_share_changes(world: World) -> None:
    hour = timedelta(hours=1)
    current = rollout(starts=(START, START + 30 * hour), step_started_at=START + 30 * hour)
    given = [(current.control, hours, 10) for hours in (-1, 0, 23, 25)]
    given += [(current.candidate, hours, 3) for hours in (1, 31, 47.5, 48)]
    with world.stores.db.begin() as tx:
        rows = [slot(model, START + hours * hour, losses) for model, hours, losses in given]
        tx.execute(metadata.tables["prediction_slots"].insert(), rows)
    monitors = MonitorService(world.stores, world.scope, models=world.models)
    models = [current.control, current.candidate]
    found = monitors.evidence("delay", START, models, span_s=STRATUM_S, cuts=current.starts)
    strata = strata_of(current, {arm.model: arm for arm in found})
    assert [(stratum.start - START) / hour for stratum in strata] == [0, 24, 30, 48]
    assert [stratum.control.losses.n for stratum in strata] == [20, 10, 0, 0]
    assert [stratum.candidate.losses.n for stratum in strata] == [3, 0, 6, 3]


@given(
    actions=st.lists(st.sampled_from([Action.ADVANCE, Action.COMPLETE, Action.HOLD, Action.ROLL_BACK, Action.CLOSE]))
)
def test_any_course_of_decisions_keeps_a_rollout_whole(actions: list[Action]) -> None:
    current, now = rollout(), START
    for action in actions:
        if not current.state.active:
            break
        last = current.step + 1 >= len(current.plan.steps)
        guarding = current.state is RolloutState.GUARDING
        if (action is Action.ADVANCE and (last or guarding)) or (action is Action.CLOSE) is not guarding:
            continue
        now += timedelta(hours=1)
        after = next_state(current, Decision(action, "so"), now, Arm())
        assert after.revision == current.revision + 1
        assert after.starts[-1] == after.step_started_at
        assert list(after.starts) == sorted(after.starts)
        assert 0.0 <= after.share <= 1.0
        assert (after.ended_at is None) == after.state.active
        assert msgspec.convert(msgspec.to_builtins(after), Rollout) == after
        current = after


def test_a_stratum_counts_for_the_step_it_began_in() -> None:
    current = rollout(step=1, step_started_at=START + timedelta(days=1), share=0.25)
    before = Stratum(START, Arm(requests=Sufficient.of_events(900, 0)), Arm(requests=Sufficient.of_events(900, 890)))
    assert decide(current, [before], START + timedelta(days=1)).action is Action.WAIT
