"""Loops declared, triggered, proposed and cancelled; the simulated clock."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tests.loop.conftest import START
from tests.loop.world import LoopWorld

from loopwright.core import Conflict, Invalid, NotFound, Scope, SystemClock, Unavailable, new_id
from loopwright.loop import Controller, LoopOutcome, LoopState, WorkspaceClock, every, on_alert, on_new_version
from loopwright.loop.starting import collect, start_waiting
from loopwright.loop.tables import loop_controllers, loop_triggers
from loopwright.release import Action
from loopwright.serve import read_state
from loopwright.store import Event, Stores


def pass_once(world: LoopWorld) -> None:
    """Collect what asks for loops, and start what may."""
    now = world.stores.clock.now()
    collect(world.stores, now)
    start_waiting(world.stores, now)


def test_declaring_a_loop_makes_its_endpoint_and_repeating_it_changes_nothing(world: LoopWorld) -> None:
    loop = world.declare()
    assert world.endpoints.get("delay").model == "delay"
    assert world.loops.apply(loop) == world.loops.get("delay")
    assert world.loops.get("loop:delay").revision == 1
    world.declare(cooldown_s=60.0)
    assert world.loops.get("delay").revision == 2
    assert world.kinds("loop.") == ["loop.declared", "loop.declared"]
    assert [info.loop.cooldown_s for info in world.loops.list()] == [60.0]


def test_a_loop_that_makes_no_sense_is_not_kept(world: LoopWorld) -> None:
    with pytest.raises(Invalid, match="field pipeline"):
        world.declare(pipeline="training")
    with pytest.raises(NotFound, match="no loop 'delay'"):
        world.loops.get("delay")
    assert world.endpoints.list() == []


def test_a_trigger_by_hand_starts_one_run(world: LoopWorld) -> None:
    world.declare()
    world.loops.trigger("delay", "I have a feeling")
    pass_once(world)
    pass_once(world)
    (run,) = world.loops.runs("delay")
    assert (run.state, run.trigger) == (LoopState.PENDING, "manual")
    (event,) = world.events("loop.triggered")
    assert run.last_event == event.ref
    assert event.evidence["because"] == {"by": "user:local", "reason": "I have a feeling"}


def test_triggers_that_wait_together_start_one_run(world: LoopWorld) -> None:
    world.declare()
    for _ in range(3):
        world.loops.trigger("delay")
    pass_once(world)
    assert len(world.loops.runs()) == 1
    assert len(world.events("loop.triggered")[0].evidence["other_causes"]) == 2


def test_a_trigger_waits_while_a_run_is_under_way_and_while_the_loop_cools_down(world: LoopWorld) -> None:
    world.declare(cooldown_s=3600.0)
    world.loops.trigger("delay")
    pass_once(world)
    (first,) = world.loops.runs()
    world.loops.trigger("delay")
    pass_once(world)
    assert len(world.loops.runs()) == 1
    with world.stores.db.begin() as tx:
        tx.exec_driver_sql(f"UPDATE loop_runs SET training_run = 'x' WHERE id = '{first.id}'")
    world.loops.cancel(first.id)
    pass_once(world)
    assert len(world.loops.runs()) == 1
    world.loops.advance_clock(START + timedelta(hours=1))
    pass_once(world)
    assert len(world.loops.runs()) == 2


def test_a_timer_fires_once_a_period_however_far_the_clock_jumps(world: LoopWorld) -> None:
    world.declare(triggers=(every(days=1),))
    pass_once(world)
    assert world.loops.runs() == []
    world.loops.advance_clock(START + timedelta(days=5))
    pass_once(world)
    pass_once(world)
    (run,) = world.loops.runs()
    assert run.cause == f"timer:delay:{(START + timedelta(days=1)).isoformat()}"
    world.loops.cancel(run.id)
    world.loops.advance_clock(START + timedelta(days=6))
    pass_once(world)
    assert len(world.loops.runs()) == 2


def test_a_new_version_of_a_dataset_starts_the_loop_with_that_event_as_cause(world: LoopWorld) -> None:
    from tests.loop.project import make_rows

    world.declare(triggers=(on_new_version("flights"),))
    world.datasets.ingest("other", make_rows(10, 1))
    pass_once(world)
    assert world.loops.runs() == []
    world.datasets.ingest("flights", make_rows(10, 1))
    pass_once(world)
    (run,) = world.loops.runs()
    assert world.stores.events.get(run.cause).subject == "dataset:flights@1"


def test_what_was_there_when_a_loop_was_first_declared_does_not_start_it(world: LoopWorld) -> None:
    from tests.loop.project import make_rows

    world.datasets.ingest("flights", make_rows(10, 1))
    world.loops.advance_clock(START + timedelta(seconds=1))
    world.declare(triggers=(on_new_version("flights"),))
    pass_once(world)
    assert world.loops.runs() == []


def test_an_event_counts_once_even_if_the_cursor_is_lost(world: LoopWorld) -> None:
    from tests.loop.project import make_rows

    world.declare(triggers=(on_new_version("flights"),))
    world.datasets.ingest("flights", make_rows(10, 1))
    pass_once(world)
    with world.stores.db.begin() as tx:
        world.stores.events.save_cursor(tx, "loop controller", 0)
    pass_once(world)
    with world.stores.db.read() as connection:
        assert len(connection.execute(loop_triggers.select()).all()) == 1


def test_other_projects_loops_do_not_hear_it(world: LoopWorld) -> None:
    from tests.loop.project import make_rows

    world.declare(triggers=(on_new_version("flights"),))
    world.scoped(Scope(project="other")).datasets.ingest("flights", make_rows(10, 1))
    pass_once(world)
    assert world.loops.runs() == []
    assert world.scoped(Scope(project="other")).loops.list() == []


def test_a_version_can_be_proposed_to_the_loop_that_releases_its_model(world: LoopWorld) -> None:
    version = world.fit()
    with pytest.raises(NotFound, match="no loop releases model:delay"):
        world.loops.release(version.ref)
    world.declare()
    run = world.loops.release(version.ref)
    assert (run.state, run.model_version, run.trigger) == (LoopState.GATING, version.ref, "proposed")
    (event,) = world.events("loop.triggered")
    assert world.stores.events.get(event.cause).kind == "model.version_created"
    world.loops.apply(msgspec.structs.replace(world.loops.get("delay").loop, name="second", endpoint="second"))
    with pytest.raises(Invalid, match="several loops release model:delay"):
        world.loops.release(version.ref)
    assert world.loops.release(version.ref, "second").loop == "second"


def test_a_cancelled_run_is_finished_and_told(world: LoopWorld) -> None:
    world.declare()
    run = world.loops.release(world.fit().ref)
    done = world.loops.cancel(run.id, "changed my mind")
    assert (done.outcome, done.reason) == (LoopOutcome.CANCELLED, "changed my mind")
    (event,) = world.events("loop.finished")
    assert event.evidence["outcome"] == "cancelled"
    assert world.causes(event) == ["loop.finished", "loop.triggered", "model.version_created"]
    with pytest.raises(Conflict, match="has finished already"):
        world.loops.cancel(run.id)


def test_the_overview_shows_a_loop_with_its_runs_and_decisions(world: LoopWorld) -> None:
    world.declare()
    done = world.loops.cancel(world.loops.release(world.fit().ref).id)
    active = world.loops.release(world.fit().ref)
    (status,) = world.loops.overview()
    assert [run.id for run in status.active] == [active.id]
    assert status.last is not None
    assert status.last.id == done.id
    assert [event.kind for event in status.decisions] == ["loop.triggered", "loop.finished", "loop.triggered"]


def test_runs_are_listed_newest_first_in_pages(world: LoopWorld) -> None:
    world.declare()
    made = [world.loops.release(world.fit().ref).id for _ in range(3)]
    assert [run.id for run in world.loops.runs(limit=2)] == made[:0:-1]
    assert [run.id for run in world.loops.runs(after=made[1])] == made[:1]
    assert world.loops.run(f"looprun:{made[0]}").id == made[0]
    with pytest.raises(NotFound):
        world.loops.run("0" * 32)


def test_the_clock_moves_forward_only(world: LoopWorld) -> None:
    later = START + timedelta(days=1)
    assert world.loops.advance_clock(later) == later
    assert world.loops.now() == later
    with pytest.raises(Conflict, match="cannot go back"):
        world.loops.advance_clock(START)
    with pytest.raises(Invalid, match="has no zone"):
        world.loops.advance_clock(datetime(2014, 1, 1))  # noqa: DTZ001 (that is what is refused)


def test_the_machines_clock_cannot_be_moved(world: LoopWorld) -> None:
    world.stores.clock = SystemClock()
    with pytest.raises(Conflict, match="goes by the machine's clock"):
        world.loops.advance_clock(START)


@pytest.mark.slow
def test_another_process_sees_the_clock_move(small_world: LoopWorld, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from loopwright.core import locate\n"
        "from loopwright.loop import WorkspaceClock\n"
        "from loopwright.store import open_stores\n"
        "from tests.conftest import room_migrations\n"
        "clock = WorkspaceClock(open_stores(locate(sys.argv[1]), room_migrations()).db)\n"
        "for _ in sys.stdin:\n"
        "    print(clock.now().isoformat(), flush=True)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for days in range(3):
            moved = small_world.loops.advance_clock(START + timedelta(days=days))
            other.stdin.write("\n")
            other.stdin.flush()
            assert other.stdout.readline().strip() == moved.isoformat()
        other.stdin.close()


def test_a_clock_that_was_never_moved_stands_at_the_beginning(stores: Stores) -> None:
    assert WorkspaceClock(stores.db).now().year == 1970


def test_without_a_controller_there_is_nothing_to_wait_for(world: LoopWorld) -> None:
    with pytest.raises(Unavailable, match="no controller"):
        world.loops.settle(1.0)


def test_one_controller_at_a_time_has_the_lease(world: LoopWorld) -> None:
    first, second = Controller(world), Controller(world)
    first.tick()
    with pytest.raises(Unavailable, match="another controller"):
        second.tick()
    first.stop()
    second.tick()
    with pytest.raises(Unavailable, match="another controller"):
        first.tick()
    second.stop()


def test_the_lease_of_a_dead_process_is_taken_at_once(world: LoopWorld) -> None:
    first, second = Controller(world), Controller(world)
    first.tick()
    with world.stores.db.begin() as tx:
        tx.execute(loop_controllers.update().values(pid_started=1.0))
    second.tick()
    with pytest.raises(Unavailable, match="another controller"):
        Controller(world).tick()
    second.stop()


def test_a_first_release_needs_no_more_than_ticks(world: LoopWorld) -> None:
    world.declare()
    run = world.loops.release(world.fit().ref)
    controller = Controller(world)
    while controller.tick():
        pass
    assert world.loops.run(run.id).outcome is LoopOutcome.RELEASED
    assert world.served() == {"model:delay@1": 1.0}
    controller.stop()


def test_a_change_whose_maker_died_before_publishing_is_published(small_world: LoopWorld) -> None:
    version = small_world.fit()
    small_world.endpoints.create("delay", version.ref)
    controller = Controller(small_world)
    controller.tick()
    with small_world.stores.db.begin() as tx:
        tx.exec_driver_sql("UPDATE endpoints SET salt = 'another'")
        tx.exec_driver_sql("UPDATE serving_revisions SET revision = revision + 1")
    controller.tick()
    controller.stop()
    state = read_state(small_world.stores.data / "serving" / "state.json")
    assert state.endpoints[0].salt == "another"


def alert(world: LoopWorld, kind: str, subject: str) -> Event:
    told = {"monitor": "delay", "about": "drift", "features": [{"feature": "wind"}]}
    with world.stores.db.begin() as tx:
        return world.stores.events.append(tx, kind, subject, world.scope, told)


def test_an_alert_that_closes_before_the_loop_may_start_asks_no_longer(world: LoopWorld) -> None:
    world.declare(triggers=(on_alert("delay"),))
    first, second = f"alert:{new_id()}", f"alert:{new_id()}"
    opened = alert(world, "alert.opened", first)
    pass_once(world)
    (run,) = world.loops.runs()
    assert run.cause == opened.ref
    assert world.events("loop.triggered")[0].evidence["because"] == {"monitor": "delay", "about": "drift"}
    alert(world, "alert.opened", second)
    pass_once(world)
    alert(world, "alert.closed", second)
    pass_once(world)
    world.loops.cancel(run.id)
    pass_once(world)
    assert len(world.loops.runs()) == 1


def test_a_rollout_taken_back_by_hand_ends_its_run(world: LoopWorld) -> None:
    world.declare()
    controller = Controller(world)
    runs = [world.loops.release(world.fit().ref), world.loops.release(world.fit(run=world.runs.start().id).ref)]
    while controller.tick():
        pass
    assert world.loops.run(runs[1].id).state is LoopState.ROLLING_OUT
    rollout = world.loops.run(runs[1].id).rollout
    decision = world.rollouts.judge(rollout)
    assert decision.action is Action.WAIT
    assert "0 of 100 labels" in decision.reason
    world.endpoints.roll_back("delay", "a bad feeling")
    while controller.tick():
        pass
    done = world.loops.run(runs[1].id)
    assert (done.outcome, done.reason) == (LoopOutcome.ROLLED_BACK, "a bad feeling")
    controller.stop()
