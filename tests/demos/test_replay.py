"""The replay of some days: every flight is answered, by what was known at its departure, and told how it went."""

from __future__ import annotations

from datetime import date, timedelta
from importlib import import_module
from pathlib import Path

import msgspec
import polars as pl
import pytest
from tests.demos.project import first_version

from loopwright.demos.flights import source
from loopwright.demos.flights.replay import Replay
from loopwright.demos.process import UpProcess
from loopwright.workspace import open_workspace

FIRST, LAST = date(2013, 4, 1), date(2013, 4, 3)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_every_flight_is_answered_from_the_first_request_after_a_release_on(root: Path) -> None:
    features, project = import_module("flight_features"), import_module("delay")
    sources, begin, end = source.load(source.folder()), source.turn_of(FIRST), source.turn_of(LAST + timedelta(days=1))
    with open_workspace(root) as ws:
        up = UpProcess(root)
        replay = Replay(up, ws, sources, features)
        try:
            replay.ask(lambda remote: remote.loops.advance_clock(to=begin))
            loop = msgspec.structs.replace(project.LOOP, gates=())
            first = first_version(ws, sources, features, begin)
            replay.ask(lambda remote: remote.loops.apply(loop))
            replay.ask(lambda remote: remote.monitors.apply(project.MONITOR))
            replay.ask(lambda remote: remote.loops.release(first))
            replay.ask(lambda remote: remote.loops.settle(60.0))
            replay.run(FIRST, LAST, lambda _: None)
        finally:
            replay.close()
            up.stop()
        due = sources.flights.filter(pl.col("scheduled_at") >= begin, pl.col("scheduled_at") < end)
        labelled = due.filter(pl.col("scheduled_at") < end - timedelta(days=1), pl.col("arr_delay").is_not_null())
        assert (replay.counts.predictions, replay.counts.refused) == (due.height, 0)
        assert replay.counts.labels == labelled.height
        flown = sources.flights.filter(pl.col("known_at") <= end)
        assert ws.datasets.get("flights").rows == flown.height
        keys = due.select("carrier", "origin", "dest", "tailnum").unique()
        for view in features.VIEWS:
            assert ws.features.skew(view.name, keys, end).mismatches == {}
