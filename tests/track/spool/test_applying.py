"""Batches in a workspace, on both databases: once, in their order, and nothing of another project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loopwright.core import Invalid, NotFound, Scope, new_id
from loopwright.store import Stores
from loopwright.track import RunInput, RunService, RunStatus
from loopwright.track.spool.applying import apply_batch, keep_file
from loopwright.track.spool.notes import (
    InputsRead,
    Note,
    Points,
    RunBegan,
    RunEnded,
    SpoolBatch,
    TextsSet,
)

NOW_US = 1_780_000_000_000_000


def points(run: str, key: str, first: int, count: int) -> Points:
    steps = np.arange(first, first + count, dtype="<i8")
    return Points(run, key, steps.tobytes(), (steps + NOW_US).tobytes(), (steps / 2).astype("<f8").tobytes())


class Sender:
    """Sends batches of one segment, each from where the last one ended."""

    def __init__(self, stores: Stores, project: str = "default") -> None:
        self.stores, self.scope, self.spool, self.at = stores, Scope(project), new_id(), 0

    def send(
        self, notes: list[Note], given: list[Points] | None = None, bytes_: int = 320, start: int = -1
    ) -> list[str]:
        """What was refused of the batch; the position moves."""
        begin = self.at if start < 0 else start
        batch = SpoolBatch(self.spool, 1, begin, begin + 320, notes, given or [])
        outcome = apply_batch(self.stores, self.scope, batch)
        self.at = outcome.position
        return [f"{item.what}: {item.reason}" for item in outcome.refused]


@pytest.fixture
def sender(stores: Stores) -> Sender:
    return Sender(stores)


def began(run: str, **given: object) -> RunBegan:
    return RunBegan(run, "spooled", "one", NOW_US, **given)  # type: ignore[arg-type]  # whatever a test says


def test_a_whole_run_in_one_batch(stores: Stores, sender: Sender) -> None:
    run, runs = new_id(), RunService(stores, Scope())
    notes: list[Note] = [
        began(run, params={"a": "1"}, tags={"t": "x"}),
        TextsSet(run, {"b": "2"}, {"t": "y"}),
        InputsRead(run, [RunInput("dataset:flights@1", "train", "d" * 64)]),
        RunEnded(run, RunStatus.FINISHED, "", NOW_US + 5_000_000),
    ]
    assert sender.send(notes, [points(run, "loss", 0, 5), points(run, "loss", 5, 5)]) == []
    found = runs.get(run)
    assert (found.experiment, found.name, found.status, found.seconds) == ("spooled", "one", "finished", 5.0)
    assert (found.params, found.tags) == ({"a": "1", "b": "2"}, {"t": "y"})
    assert [item.ref for item in found.inputs] == ["dataset:flights@1"]
    assert runs.history(run, "loss").steps == list(range(10))
    told = [event.kind for event in stores.events.read(subject=f"run:{run}")]
    assert told == ["run.started", "run.finished"]


def test_a_batch_is_applied_only_where_the_last_one_ended(stores: Stores, sender: Sender) -> None:
    run, runs = new_id(), RunService(stores, Scope())
    sender.send([began(run)])
    sender.send([], [points(run, "m", 0, 4)])
    sender.send([], [points(run, "m", 100, 4)], start=320)  # was applied, with other bytes even
    assert sender.at == 640
    sender.send([], [points(run, "m", 200, 4)], start=960)  # leaves a gap
    assert sender.at == 640
    sender.send([], [points(run, "m", 300, 4)], start=480)  # overlaps
    assert sender.at == 640
    assert runs.history(run, "m").steps == [0, 1, 2, 3]
    empty = apply_batch(stores, sender.scope, SpoolBatch(sender.spool, 1, 0, 0))
    assert empty.position == 640


def test_what_is_refused_leaves_the_rest_alone(stores: Stores, sender: Sender) -> None:
    run, other, runs = new_id(), new_id(), RunService(stores, Scope())
    sender.send([began(run, params={"lr": "1"})])
    refused = sender.send(
        [
            TextsSet(run, {"lr": "2", "other": "x"}),
            TextsSet(run, {"good": "1"}),
            TextsSet(run, {}, {"bad": "x" * 10_001}),
            InputsRead(run, [RunInput("no ref")]),
            RunEnded(other, RunStatus.FINISHED, "", NOW_US),
        ],
        [points(run, "m", 0, 3), points(other, "m", 0, 3)],
    )
    assert len(refused) == 5
    assert sum("params or tags" in text for text in refused) == 2
    assert any(text.startswith("3 points: there is no run") for text in refused)
    found = runs.get(run)
    assert (found.params, found.tags, found.metrics) == ({"lr": "1", "good": "1"}, {}, {"m": 1.0})
    assert sender.at == 640


def test_a_run_that_began_before_is_not_begun_again_and_goes_on_if_it_was_asked_to(
    stores: Stores, sender: Sender
) -> None:
    runs = RunService(stores, Scope())
    ended = runs.start("e", "first").id
    runs.finish(ended)
    sender.send([began(ended)])
    assert (runs.get(ended).status, runs.get(ended).name) == ("finished", "first")
    sender.send([began(ended, resume=True)])
    assert runs.get(ended).status == "running"
    assert sender.send([RunEnded(ended, RunStatus.FAILED, "no", NOW_US)]) == []
    assert sender.send([RunEnded(ended, RunStatus.KILLED, "its process ended", NOW_US)]) == []
    assert runs.get(ended).status == "failed"
    [refused] = sender.send([RunEnded(ended, RunStatus.FINISHED, "", NOW_US)])
    assert "has ended as 'failed'" in refused


def test_a_part_may_arrive_before_the_whole(stores: Stores, sender: Sender) -> None:
    whole, part, runs = new_id(), new_id(), RunService(stores, Scope())
    sender.send([began(part, parent=whole)])
    sender.send([began(whole)])
    assert runs.get(part).parent == whole


def test_a_run_of_another_project_is_out_of_reach(stores: Stores) -> None:
    mine, theirs = Sender(stores, "mine"), Sender(stores, "theirs")
    run, runs = new_id(), RunService(stores, Scope("mine"))
    mine.send([began(run)])
    refused = theirs.send(
        [began(run, params={"x": "1"}), RunEnded(run, RunStatus.KILLED, "", NOW_US)], [points(run, "m", 0, 3)]
    )
    assert len(refused) == 4
    assert (runs.get(run).status, runs.get(run).params, runs.get(run).metrics) == ("running", {}, {})
    with pytest.raises(NotFound):
        keep_file(stores, Scope("theirs"), run, "a.txt", Path(__file__))


@pytest.mark.parametrize(
    "batch",
    [
        SpoolBatch("no id", 1, 0, 32),
        SpoolBatch("a" * 32, -1, 0, 32),
        SpoolBatch("a" * 32, 1, 64, 32),
        SpoolBatch("a" * 32, 1, -32, 32),
        SpoolBatch("a" * 32, 1, 0, 2**63),
        SpoolBatch("a" * 32, 1, 0, 32, [], [Points("r", "m", b"x" * 8, b"x" * 16, b"x" * 8)]),
        SpoolBatch("a" * 32, 1, 0, 32, [], [Points("r", "m", b"x" * 7, b"x" * 7, b"x" * 7)]),
        SpoolBatch("a" * 32, 1, 0, 32, [], [Points("r", "", b"", b"", b"")]),
        SpoolBatch("a" * 32, 1, 0, 32, [RunBegan("../..", "e", "n", 0)]),
        SpoolBatch("a" * 32, 1, 0, 32, [RunBegan("a" * 32, "e", "n", 2**62)]),
    ],
)
def test_a_malformed_batch_is_refused_whole(stores: Stores, batch: SpoolBatch) -> None:
    with pytest.raises(Invalid):
        apply_batch(stores, Scope(), batch)
    assert RunService(stores, Scope()).search() == []


def test_names_are_not_remembered_from_a_transaction_that_was_undone(stores: Stores, sender: Sender) -> None:
    """The numbers of keys are kept between transactions; one of a batch that failed must not be."""
    run, runs = new_id(), RunService(stores, Scope())
    sender.send([began(run)])
    with pytest.raises(Invalid):
        sender.send([TextsSet(run, {"new": "1"})], [points(run, "", 0, 1)])
    assert sender.send([TextsSet(run, {"new": "1"})], [points(run, "new", 0, 1)]) == []
    assert (runs.get(run).params, runs.get(run).metrics) == ({"new": "1"}, {"new": 0.0})


def test_the_positions_of_segments_that_are_done_are_forgotten(stores: Stores) -> None:
    from loopwright.track.deliveries import delivered

    run, spool = new_id(), new_id()
    for segment in (1, 2, 3):
        apply_batch(stores, Scope(), SpoolBatch(spool, segment, 0, 32, [began(run)] if segment == 1 else []))
    with stores.db.read() as connection:
        assert delivered(connection, spool) == {3: 32}
