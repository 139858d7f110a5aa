"""The demo's replay goes on while `loopwright up` is killed twenty times: nothing acknowledged is lost, nothing is
decided twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path

import msgspec
import pytest
from tests.demos.project import first_version

from loopwright.demos.flights import source
from loopwright.demos.flights.replay import Replay
from loopwright.demos.process import UpProcess
from loopwright.workspace import Workspace, open_workspace

FIRST, KILLS = date(2013, 4, 1), 20

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]


class Killer(threading.Thread):
    """Kills the server at random moments, a bounded number of times, for as long as it is wanted."""

    def __init__(self, up: UpProcess, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.up, self.random, self.kills, self.over = up, random.Random(seed), 0, threading.Event()

    def run(self) -> None:
        while self.kills < KILLS and not self.over.is_set():
            if not self.up.answering:
                self.over.wait(0.01)
                continue
            self.over.wait(self.random.uniform(0.0, 2.0))
            self.up.kill()
            self.kills += 1


def test_twenty_kills_lose_nothing_that_was_acknowledged_and_repeat_no_decision(root: Path):
    features, project = import_module("flight_features"), import_module("delay")
    sources = source.load(source.folder())
    now = source.turn_of(FIRST)
    with open_workspace(root) as ws:
        up = UpProcess(root)
        replay = Replay(up, ws, sources, features)
        killer = Killer(up, seed=20)
        try:
            replay.ask(lambda remote: remote.loops.advance_clock(to=now))
            first = first_version(ws, sources, features, now)
            loop = msgspec.structs.replace(
                project.LOOP, params={"until": "{now}", "trees": 40}, cooldown_s=0.0, gates=()
            )
            replay.ask(lambda remote: remote.loops.apply(loop))
            replay.ask(lambda remote: remote.monitors.apply(project.MONITOR))
            replay.ask(lambda remote: remote.loops.release(first))
            replay.ask(lambda remote: remote.loops.settle(60.0))
            killer.start()
            day = FIRST
            while killer.kills < KILLS or day < FIRST + timedelta(days=12):
                replay.run(day, day, lambda _: None)
                day += timedelta(days=1)
                if (day - FIRST).days % 6 == 2:
                    ws.loops.trigger("delay", reason="a person asks for it")
            killer.join(60.0)
            replay.run(day, day, lambda _: None)
        finally:
            killer.over.set()
            replay.close()
            up.stop()
        assert killer.kills == KILLS
        assert up.restarts >= KILLS
        _check_predictions(ws, replay)
        _check_labels(ws, replay)
        _check_decisions(ws)
        report = ws.events.verify()
        assert report.ok, report.problem


def _check_predictions(ws: Workspace, replay: Replay) -> None:
    """Every acknowledged prediction is in the log, once."""
    ws.monitors.advance()
    ws.monitors.compact()
    logged = Counter(ws.stores.tables.read("predictions/default/delay")["id"].to_list())
    assert len(replay.acknowledged) == len(set(replay.acknowledged))
    missing = [identifier for identifier in replay.acknowledged if logged[identifier] != 1]
    assert not missing, f"{len(missing)} of {len(replay.acknowledged)} acknowledged predictions are not logged once"


def _check_labels(ws: Workspace, replay: Replay) -> None:
    """Every acknowledged label was joined to its prediction, in windows and by id."""
    sample = replay.acknowledged[:: max(1, len(replay.acknowledged) // 50)]
    records = [ws.monitors.find_prediction(identifier) for identifier in sample]
    assert {record.id for record in records} == set(sample)
    assert sum(1 for record in records if record.label is not None) > len(records) // 2


def _check_decisions(ws: Workspace) -> None:
    """Each thing that can be decided once was decided once."""
    events = ws.events.list(limit=10_000)
    kinds = Counter(event.kind for event in events)
    assert kinds["loop.triggered"] >= 2
    assert kinds["rollout.started"] >= 2
    once = ("loop.triggered", "loop.finished", "rollout.started", "rollout.completed", "rollout.rolled_back")
    told = Counter((event.kind, event.subject) for event in events if event.kind in once)
    assert {key: count for key, count in told.items() if count > 1} == {}
    steps = Counter(
        (event.subject, str(event.evidence.get("step", event.evidence.get("share"))))
        for event in events
        if event.kind == "rollout.advanced"
    )
    assert {key: count for key, count in steps.items() if count > 1} == {}
    versions = ws.models.versions("delay")
    runs = Counter(version.run for version in versions)
    assert {run: count for run, count in runs.items() if count > 1} == {}, "a run registered two versions"
    assert len([run for run in ws.loops.runs() if run.trigger]) == kinds["loop.triggered"]
