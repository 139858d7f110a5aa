"""Two controllers that both believe they have the lease: every decision is still taken once."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import pairwise

import pytest
from tests.loop.conftest import START
from tests.loop.replay import Replay
from tests.loop.world import LoopWorld

from loopwright.loop import LoopOutcome
from loopwright.loop.jobs import Jobs
from loopwright.loop.passing import Pass
from loopwright.release import Guard, ParityProven


@pytest.mark.slow
def test_racing_controllers_decide_once(world: LoopWorld) -> None:
    guard = Guard(duration_s=86_400.0)
    world.declare(gates=(ParityProven(),), guard=guard)
    ended = threading.Event()
    threads = [threading.Thread(target=_rush, args=(world, ended)) for _ in range(2)]
    for thread in threads:
        thread.start()
    player = Replay(world, START, per_day=400)
    outcomes = []
    try:
        for version in (world.fit(), world.fit(run=world.runs.start().id), world.fit(damage="broken")):
            run = world.loops.release(version.ref)
            for _ in range(400):
                if not world.loops.run(run.id).active:
                    break
                if world.loops.run(run.id).rollout and player.served:
                    player.day()
                    world.loops.advance_clock(player.now)
                ended.wait(0.05)
            outcomes.append(world.loops.run(run.id).outcome)
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
        player.close()
    assert outcomes == [LoopOutcome.RELEASED, LoopOutcome.RELEASED, LoopOutcome.ROLLED_BACK]
    events = world.events()
    told = Counter((event.subject, event.kind) for event in events if event.kind.startswith(("loop.", "approval.")))
    told.pop(("loop:delay", "loop.declared"))
    assert set(told.values()) == {1}, told
    assert Counter(event.subject for event in world.events("gate.judged")) == {
        f"model:delay@{number}": 1 for number in (1, 2, 3)
    }
    for rollout in world.rollouts.list():
        steps = [event for event in events if event.subject == f"rollout:{rollout.id}"]
        assert all(after.cause == before.ref for before, after in pairwise(steps))
        assert len(steps) == rollout.revision + 1


def _rush(world: LoopWorld, ended: threading.Event) -> None:
    """Pass after pass, without asking for the lease."""
    jobs = Jobs(world.stores.data / "jobs", world.stores.root, ended.is_set)
    passing = Pass(world, jobs, lambda: None)
    while not ended.is_set():
        passing.run()
