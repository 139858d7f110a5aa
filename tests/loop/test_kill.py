"""A controller that is killed with SIGKILL at random moments takes every decision, and none twice."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from tests.loop.conftest import START
from tests.loop.replay import Replay
from tests.loop.world import LoopWorld

from loopwright.loop import LoopOutcome, LoopRun, LoopState
from loopwright.release import Beats, Guard, ParityProven

KILLS = 20
ROOT = Path(__file__).parents[2]
LIMIT_S = 300.0


class Nursery:
    """The process that controllers are forked from."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "controller.log").open("ab")
        command = [sys.executable, "-m", "tests.loop.run_controller", str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        self._process = subprocess.Popen(command, cwd=ROOT, **pipes)  # type: ignore[call-overload]  # pipes as a dict
        self._newest: Victim | None = None

    def start(self) -> Victim:
        self._process.stdin.write(b"start\n")
        self._process.stdin.flush()
        self._newest = Victim(int(self.told(b"started").split()[1]), self)
        return self._newest

    def told(self, start: bytes) -> bytes:
        """The next line that begins so; one between may come of a controller that was killed with it on its lips."""
        for line in self._process.stdout:
            if line.startswith(start):
                return bytes(line)
        raise AssertionError("the process that starts controllers has ended")

    def close(self) -> None:
        if self._newest is not None:
            self._newest.kill()  # where the test has failed
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._log.close()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(tmp_path)
    yield made
    made.close()


class Victim:
    """The process of a controller."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self._process, self._nursery = psutil.Process(pid), nursery

    def ready(self) -> None:
        self._nursery.told(b"ready %d\n" % self._process.pid)

    def kill(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()
            self._process.wait(60)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGUSR1)
        self._process.wait(60)


@pytest.fixture
def traffic(small_world: LoopWorld) -> Iterator[threading.Event]:
    """Days of requests played in a thread while the event is set."""
    flowing, ended = threading.Event(), threading.Event()
    player = Replay(small_world, START, per_day=400)

    def play() -> None:
        while not ended.is_set():
            if flowing.wait(0.05) and not ended.is_set():
                player.day()
                small_world.loops.advance_clock(player.now)
                time.sleep(0.1)

    thread = threading.Thread(target=play, name="traffic")
    thread.start()
    yield flowing
    ended.set()
    flowing.set()
    thread.join(60)
    player.close()


class Persecutor:
    """Starts controllers and kills them, so often for each run; then lets one live until the run has ended."""

    def __init__(self, nursery: Nursery, flowing: threading.Event) -> None:
        self._nursery, self._flowing = nursery, flowing
        self._rng = random.Random(20130601)
        self.kills = 0

    def until_it_ends(self, find: Callable[[], LoopRun | None], kills: int) -> LoopRun:
        """The run that `find` gives, once it has ended; requests flow while its rollout needs them."""
        for _ in range(kills):
            self._kill_one()
            if self._ended(find) is not None:
                break
        last = self._nursery.start()
        deadline = time.monotonic() + LIMIT_S
        while (ended := self._ended(find)) is None:
            assert time.monotonic() < deadline, f"not ended in {LIMIT_S:g} s: {find()}"
            time.sleep(0.05)
        last.ready()
        last.stop()
        return ended

    def _kill_one(self) -> None:
        victim = self._nursery.start()
        if self._rng.random() < 0.8:
            victim.ready()
        # Mostly short lives, so that kills fall everywhere; some long ones, so that slow work is done at all.
        time.sleep(self._rng.expovariate(1.0 / self._rng.choice([0.02, 0.1, 0.5, 2.0])))
        victim.kill()
        self.kills += 1

    def _ended(self, find: Callable[[], LoopRun | None]) -> LoopRun | None:
        run = find()
        if run is not None and run.state in (LoopState.ROLLING_OUT, LoopState.GUARDING):
            self._flowing.set()
        else:
            self._flowing.clear()
        return run if run is not None and not run.active else None


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_a_controller_killed_at_any_line_skips_nothing_and_repeats_nothing(
    small_world: LoopWorld, traffic: threading.Event, nursery: Nursery
) -> None:
    guard = Guard(duration_s=86_400.0)
    gates = (ParityProven(), Beats("brier", min_effect=-0.05))
    small_world.declare(gates=gates, guard=guard, params={"until": "{now}"}, training_attempts=5)
    persecutor = Persecutor(nursery, traffic)
    loops = small_world.loops

    id = loops.release(small_world.fit().ref).id
    first = persecutor.until_it_ends(lambda: loops.run(id), kills=4)
    loops.trigger("delay")
    trained = persecutor.until_it_ends(
        lambda: next((run for run in loops.runs() if run.trigger == "manual"), None), kills=10
    )
    small_world.declare(gates=(ParityProven(),), guard=guard)
    other = loops.release(small_world.fit(damage="broken").ref).id
    refused = persecutor.until_it_ends(lambda: loops.run(other), kills=KILLS - persecutor.kills)

    assert persecutor.kills >= KILLS // 2
    assert first.outcome is LoopOutcome.RELEASED, first.reason
    assert trained.outcome is LoopOutcome.RELEASED, trained.reason
    assert refused.outcome is LoopOutcome.ROLLED_BACK, refused.reason
    assert_no_decision_is_missing_or_twice(small_world, [first.id, trained.id, refused.id])
    assert small_world.served() == {trained.model_version: 1.0}
    assert small_world.models.resolve("model:delay@champion") == trained.model_version
    assert small_world.stores.events.verify().ok


def assert_no_decision_is_missing_or_twice(world: LoopWorld, ids: list[str]) -> None:
    events = world.events()
    for id in ids:
        run = world.loops.run(id)
        of_run = Counter(event.kind for event in events if event.subject == run.ref)
        assert of_run["loop.triggered"] == 1
        assert of_run["loop.finished"] == 1
        asked = Counter(event.kind for event in events if event.subject == f"approval:{run.approval}")
        assert asked == {"approval.requested": 1, "approval.granted": 1}
        steps = [event for event in events if event.subject == f"rollout:{run.rollout}"]
        assert Counter(event.kind for event in steps)["rollout.started"] == 1
        assert [event.cause for event in steps[1:]] == [event.ref for event in steps[:-1]]
        shares = [event.evidence["share"]["after"] for event in steps[1:]]
        assert len(set(shares)) == len(shares) or steps[-1].kind == "rollout.closed"
    judged = Counter(
        (event.subject, event.evidence["run"], event.evidence["gate"]["kind"]) for event in world.events("gate.judged")
    )
    assert set(judged.values()) == {1}, judged
    traffic = [event.evidence for event in events if event.kind == "endpoint.traffic_set"]
    assert all(before["after"] == after["before"] for before, after in pairwise(traffic))
    made = Counter(version.run for version in world.models.versions("delay") if version.run)
    assert all(number == 1 for number in made.values()), made
