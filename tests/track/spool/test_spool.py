"""A spool as files: segments, names of series, bounds, what a dead writer leaves."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from loopwright.core import new_id
from loopwright.track.recorder import Recorder, begin_run
from loopwright.track.spool.folders import About, adopt, open_runs, spools_in
from loopwright.track.spool.layout import SLOT_BYTES
from loopwright.track.spool.notes import SpoolBatch, TextsSet
from loopwright.track.spool.reader import SegmentReader
from loopwright.track.spool.segments import segment_path, segments_in
from loopwright.track.spool.spools import Spool
from loopwright.track.spool.trail import Trail
from loopwright.track.spool.writer import SpoolWriter


class Quiet(Spool):
    """A spool that nobody ships, with small segments."""

    def __init__(self, root: Path, segment_bytes: int = 1 << 16, max_bytes: int = 1 << 30) -> None:
        self.writer = SpoolWriter(root, About("/w", "p"), max_bytes=max_bytes, segment_bytes=segment_bytes)
        self._trail = Trail(self.writer)

    @property
    def trail(self) -> Trail:
        return self._trail

    @property
    def trouble(self) -> str:
        return "nobody ships"

    def flush(self, timeout_s: float | None = None) -> bool:
        return False


def recorder(spool: Quiet, **given: object) -> Recorder:
    return Recorder(spool, begin_run(new_id(), "default", "", {}, {}))


def batches_of(folder: Path) -> list[SpoolBatch]:
    return [batch for number in segments_in(folder) for batch in SegmentReader(folder, number).batches()]


def points_of(batches: list[SpoolBatch]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for batch in batches:
        for item in batch.points:
            steps, _, values = item.columns()
            found.setdefault(item.key, []).extend(zip(steps.tolist(), values.tolist(), strict=True))
    return found


def test_each_segment_can_be_read_by_itself(tmp_path: Path) -> None:
    spool = Quiet(tmp_path)
    run = recorder(spool)
    for step in range(10_000):
        run.log_metric("a", step / 2, step)
        run.log_metrics({"b": step, "c": -step}, step)
    folder = spool.writer.folder
    numbers = segments_in(folder)
    assert len(numbers) > 10
    total = 0
    for number in numbers:
        reader = SegmentReader(folder, number)
        total += sum(len(item.steps) // 8 for batch in reader.batches() for item in batch.points)
        assert (reader.damaged, reader.unknown) == (0, 0)
    assert total == 30_000
    found = points_of(batches_of(folder))
    assert {key: sorted(points) for key, points in found.items()} == {
        "a": [(step, step / 2) for step in range(10_000)],
        "b": [(step, float(step)) for step in range(10_000)],
        "c": [(step, float(-step)) for step in range(10_000)],
    }


def test_reading_may_stop_and_go_on_at_every_batch(tmp_path: Path) -> None:
    spool = Quiet(tmp_path)
    run = recorder(spool)
    for step in range(500):
        run.log_metric("a", step, step)
        if step % 100 == 0:
            run.log_artifact(b"x" * step, f"{step}.bin")
    folder = spool.writer.folder
    whole = list(SegmentReader(folder, 1).batches())
    assert len(whole) > 4  # a kept file begins a batch
    for count in range(len(whole) + 1):
        reader = SegmentReader(folder, 1)
        reader.seek(whole[count - 1].end if count else 0)
        assert points_of(list(reader.batches())) == points_of(whole[count:])


def test_a_patient_reader_waits_for_a_slot_that_is_not_written_yet(tmp_path: Path) -> None:
    spool = Quiet(tmp_path)
    run = recorder(spool)
    run.log_metric("a", 1.0)
    writer = spool.writer
    hole = writer.at
    writer.at += SLOT_BYTES  # a thread has reserved its slot, and is held up before it writes
    run.log_metric("a", 2.0)
    reader = SegmentReader(writer.folder, 1)
    assert points_of(list(reader.batches(writer.at, patient=True))) == {"a": [(0, 1.0)]}
    assert reader.position == hole
    assert points_of(list(reader.batches(writer.at))) == {"a": [(1, 2.0)]}  # the writer is dead: it is passed over


def test_large_notes_get_a_segment_that_holds_them(tmp_path: Path) -> None:
    spool = Quiet(tmp_path)
    run = recorder(spool)
    run.log_params({f"p{number}": "x" * 9_000 for number in range(300)})
    run.log_metric("a", 1.0)
    notes = [note for batch in batches_of(spool.writer.folder) for note in batch.notes if isinstance(note, TextsSet)]
    assert sum(len(note.params) for note in notes) == 300
    assert points_of(batches_of(spool.writer.folder)) == {"a": [(0, 1.0)]}


def test_the_bound_is_kept_and_what_is_beyond_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Quiet(tmp_path, max_bytes=4 << 16)
    run = recorder(spool)
    for step in range(20_000):
        run.log_metric("a", step, step)
    run.finish()
    used = sum(path.stat().st_size for path in tmp_path.rglob("*.segment"))
    assert used <= 4 << 16
    kept = points_of(batches_of(spool.writer.folder))["a"]
    assert kept == [(step, float(step)) for step in range(len(kept))]
    assert spool.writer.lost == 20_000 - len(kept) > 0
    told = caplog.text
    assert told.count("LOST") == 1
    assert "max_spool_bytes" in told
    assert f"has lost {spool.writer.lost:,} points" in told
    last = [note for batch in batches_of(spool.writer.folder) for note in batch.notes][-2:]
    assert last[0] == TextsSet(run.id, tags={"loopwright.lost_points": str(spool.writer.lost)})
    assert type(last[1]).__name__ == "RunEnded"  # the end has room of its own


def test_room_that_comes_back_is_used(tmp_path: Path) -> None:
    spool = Quiet(tmp_path, max_bytes=2 << 16)
    run = recorder(spool)
    for step in range(5_000):
        run.log_metric("a", step, step)
    lost = spool.writer.lost
    assert lost
    segment_path(spool.writer.folder, 1).unlink()
    spool.writer.delivered(1)
    spool.writer._retry_at = 0.0
    run.log_metric("a", 1.0, 9_999)
    assert spool.writer.lost == lost
    assert points_of(batches_of(spool.writer.folder))["a"][-1] == (9_999, 1.0)


def test_a_folder_that_cannot_be_written_loses_points_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Quiet(tmp_path / "file")
    run = recorder(spool)
    run.log_metric("a", 1.0)
    run.log_params({"p": 1})
    run.log_artifact(b"x", "x.bin")
    run.finish()
    assert spool.writer.lost == 1
    assert "LOST" in caplog.text


def test_what_waits_in_memory_is_written_when_there_is_room(tmp_path: Path) -> None:
    blocked = tmp_path / "spools"
    blocked.write_text("in the way")
    spool = Quiet(blocked)
    run = recorder(spool)
    run.log_params({"p": 1})
    blocked.unlink()
    spool.writer._retry_at = 0.0
    run.log_metric("a", 1.0)
    notes = [note for batch in batches_of(spool.writer.folder) for note in batch.notes]
    assert [type(note).__name__ for note in notes] == ["RunBegan", "TextsSet"]


def test_a_living_spool_cannot_be_adopted_and_a_closed_one_can(tmp_path: Path) -> None:
    spool = Quiet(tmp_path)
    recorder(spool).log_metric("a", 1.0)
    [folder] = spools_in(tmp_path)
    assert adopt(folder) is None
    spool.writer.close(remove=False)
    descriptor = adopt(folder)
    assert descriptor is not None
    os.close(descriptor)


def test_a_new_spool_is_seen_only_when_it_is_locked(tmp_path: Path) -> None:
    (tmp_path / f"{new_id()}.new").mkdir()
    (tmp_path / new_id()).mkdir()  # one whose removal was cut short
    assert spools_in(tmp_path) == []


@pytest.mark.slow
def test_segments_that_are_made_ahead_never_meet_those_that_are_made_in_need(tmp_path: Path) -> None:
    """The thread that ships prepares while the caller runs out of room: no file may be two segments."""
    spool = Quiet(tmp_path, segment_bytes=1 << 14)
    run, stop = recorder(spool), threading.Event()

    def prepare() -> None:
        while not stop.is_set():
            spool.writer.prepare()

    threads = [threading.Thread(target=prepare) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(40_000):
        run.log_metric("a", step, step)
    stop.set()
    for thread in threads:
        thread.join()
    assert points_of(batches_of(spool.writer.folder))["a"] == [(step, float(step)) for step in range(40_000)]
    assert spool.writer.lost == 0
    assert len(list(spool.writer.folder.glob("*.spare"))) <= 1


def test_a_run_that_begins_without_room_is_marked_when_there_is_some(tmp_path: Path) -> None:
    blocked = tmp_path / "spools"
    blocked.write_text("in the way")
    spool = Quiet(blocked)
    run = recorder(spool)
    blocked.unlink()
    spool.writer._retry_at = 0.0
    run.log_metric("a", 1.0)
    assert open_runs(spool.writer.folder) == {run.id}
    run.finish()
    assert open_runs(spool.writer.folder) == set()
