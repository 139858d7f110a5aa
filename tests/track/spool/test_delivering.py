"""Deliveries into a real workspace: by several couriers at once, and from spools with damaged bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.track.spool.test_spool import Quiet, recorder

from loopwright.core import Scope
from loopwright.store import Stores
from loopwright.track import RunService, RunStatus
from loopwright.track.spool.applying import LocalTarget
from loopwright.track.spool.delivering import Delivery
from loopwright.track.spool.folders import spools_in
from loopwright.track.spool.layout import SLOT_BYTES
from loopwright.track.spool.segments import segment_path
from loopwright.track.spool.sweeping import deliver_dead, left_behind


@pytest.fixture
def target(stores_sqlite: Stores) -> LocalTarget:
    return LocalTarget(stores_sqlite, Scope(), lambda: None)


@pytest.fixture
def runs(stores_sqlite: Stores) -> RunService:
    return RunService(stores_sqlite, Scope())


def test_two_couriers_of_one_spool_deliver_each_point_once(
    tmp_path: Path, target: LocalTarget, runs: RunService
) -> None:
    spool = Quiet(tmp_path / "spool")
    run = recorder(spool)
    first, second = Delivery(spool.writer.folder, fresh=True), Delivery(spool.writer.folder)
    for turn in range(6):
        for step in range(300):
            run.log_metric("a", step, turn * 300 + step)
        courier = first if turn % 2 else second
        courier.advance(target, spool.writer.place(), alive=True)
    assert runs.history(run.id, "a").steps == list(range(1_800))
    assert first.points + second.points == 1_800
    assert min(first.points, second.points) > 0


def test_what_is_damaged_is_counted_and_the_rest_arrives(tmp_path: Path, target: LocalTarget, runs: RunService) -> None:
    spool = Quiet(tmp_path / "spool")
    run = recorder(spool)
    for step in range(1_000):
        run.log_metric("a", step, step)
    end = spool.writer.at
    path = segment_path(spool.writer.folder, 1)
    spool.writer.close(remove=False)
    data = bytearray(path.read_bytes())
    for step in (990, 500, 7):
        data[end - (1_000 - step) * SLOT_BYTES + 9] ^= 64
    path.write_bytes(data)
    [folder] = left_behind(tmp_path / "spool")
    delivery = deliver_dead(target, folder)
    assert delivery is not None
    assert (delivery.points, delivery.damaged) == (997, 3)
    assert runs.history(run.id, "a").steps == [step for step in range(1_000) if step not in (7, 500, 990)]
    assert runs.get(run.id).status is RunStatus.KILLED
    assert spools_in(tmp_path / "spool") == []


@pytest.mark.parametrize("left", [0, 1, 31, 32, 100, 3_000, 20_000])
def test_a_segment_that_was_cut_short_gives_what_is_whole(
    tmp_path: Path, target: LocalTarget, runs: RunService, left: int
) -> None:
    spool = Quiet(tmp_path / "spool")
    run = recorder(spool)
    for step in range(1_000):
        run.log_metric("a", step, step)
    path = segment_path(spool.writer.folder, 1)
    spool.writer.close(remove=False)
    path.write_bytes(path.read_bytes()[:left])
    delivery = deliver_dead(target, spools_in(tmp_path / "spool")[0])
    assert delivery is not None
    began = [found for found in runs.search() if found.id == run.id]
    steps = runs.history(run.id, "a").steps if began else []
    assert steps == list(range(len(steps)))
    assert len(steps) == delivery.points
    assert len(steps) >= (left - 1_000) // SLOT_BYTES
    assert left_behind(tmp_path / "spool") == []


def test_files_wait_in_the_spool_and_leave_it_when_they_are_kept(
    tmp_path: Path, target: LocalTarget, runs: RunService
) -> None:
    spool = Quiet(tmp_path / "spool")
    run = recorder(spool)
    (tmp_path / "data.txt").write_text("before")
    run.log_artifact(tmp_path / "data.txt")
    (tmp_path / "data.txt").write_text("after")
    run.log_artifact(b"x" * 100, "x.bin")
    assert len(list(spool.writer.folder.glob("files/*"))) == 2
    delivery = Delivery(spool.writer.folder, fresh=True)
    delivery.advance(target, spool.writer.place(), alive=True)
    assert runs.artifact(run.id, "data.txt") == b"before"
    assert runs.artifact(run.id, "x.bin") == b"x" * 100
    assert list(spool.writer.folder.glob("files/*")) == []


def test_a_file_that_is_gone_is_told_and_holds_nothing_up(
    tmp_path: Path, target: LocalTarget, runs: RunService
) -> None:
    spool = Quiet(tmp_path / "spool")
    run = recorder(spool)
    run.log_artifact(b"x", "gone.bin")
    run.log_metric("a", 1.0)
    for file in spool.writer.folder.glob("files/*"):
        file.unlink()
    delivery = Delivery(spool.writer.folder, fresh=True)
    delivery.advance(target, spool.writer.place(), alive=True)
    assert [item.what for item in delivery.refused] == ["the artifact 'gone.bin'"]
    assert runs.get(run.id).metrics == {"a": 1.0}
