"""The journal: what was appended is there after kill -9; a torn tail is passed over, damage is told."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import Corrupt, Invalid, NotFound, Unavailable
from loopwright.store import Cursor, JournalReader, JournalWriter, Position
from loopwright.store.journal.frames import HEADER_BYTES

PAYLOADS = st.lists(st.binary(max_size=60), min_size=1, max_size=30)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(path: Path, payloads: list[bytes], segment_bytes: int = 1 << 20) -> list[Position]:
    with JournalWriter(path, segment_bytes=segment_bytes, fsync_every_s=None) as writer:
        return [writer.append(payload) for payload in payloads]


def read_all(path: Path) -> list[bytes]:
    return [payload for _, payload in JournalReader(path).read(limit=1 << 30)]


def only_file(path: Path) -> Path:
    (file,) = path.glob("*.journal")
    return file


@given(PAYLOADS, st.integers(1, 400))
@settings(max_examples=examples(60), deadline=None)
def test_records_come_back_whole_in_order_and_by_position(payloads: list[bytes], segment_bytes: int) -> None:
    with folder() as path:
        positions = write(path, payloads, segment_bytes)
        found = list(JournalReader(path).read())
        assert found == list(zip(positions, payloads, strict=True))
        assert all(before < after for before, after in pairwise(positions))
        assert [JournalReader(path).get(position) for position in positions] == payloads


@given(PAYLOADS, st.lists(st.integers(1, 5), min_size=1))
@settings(max_examples=examples(40), deadline=None)
def test_a_reader_that_keeps_its_cursor_sees_each_record_once(payloads: list[bytes], limits: list[int]) -> None:
    with folder() as path:
        write(path, payloads, segment_bytes=100)
        cursor, seen, turn = Cursor(), [], 0
        while len(seen) < len(payloads):
            batch, cursor = JournalReader(path).read_batch(cursor, limits[turn % len(limits)])
            assert batch
            seen += [payload for _, payload in batch]
            turn += 1
        assert seen == payloads
        assert JournalReader(path).read_batch(cursor)[0] == []


@given(PAYLOADS, st.data())
@settings(max_examples=examples(60), deadline=None)
def test_a_position_resumes_behind_its_record(payloads: list[bytes], data: st.DataObject) -> None:
    with folder() as path:
        positions = write(path, payloads, segment_bytes=100)
        index = data.draw(st.integers(0, len(payloads) - 1))
        rest = [payload for _, payload in JournalReader(path).read(positions[index])]
        assert rest == payloads[index + 1 :]


@pytest.mark.slow
@given(PAYLOADS, st.data())
@settings(max_examples=examples(100), deadline=None)
def test_a_torn_tail_costs_only_the_record_that_it_tears(payloads: list[bytes], data: st.DataObject) -> None:
    with folder() as path:
        positions = write(path, payloads)
        file = only_file(path)
        size = data.draw(st.integers(0, file.stat().st_size))
        os.truncate(file, size)
        whole = [
            payload
            for position, payload in zip(positions, payloads, strict=True)
            if position.offset + HEADER_BYTES + len(payload) <= size
        ]
        assert read_all(path) == whole


@pytest.mark.slow
@given(PAYLOADS, st.data())
@settings(max_examples=examples(100), deadline=None)
def test_zeros_that_a_power_cut_left_at_the_end_are_a_torn_tail(payloads: list[bytes], data: st.DataObject) -> None:
    with folder() as path:
        positions = write(path, payloads)
        file = only_file(path)
        end = positions[-1].offset + HEADER_BYTES + len(payloads[-1])
        kept = data.draw(st.integers(positions[-1].offset, end - 1))
        content = file.read_bytes()[:kept]
        file.write_bytes(content.rstrip(b"\0") + b"\0" * (5000 - len(content.rstrip(b"\0"))))
        found = read_all(path)
        assert payloads[:-1] == found[: len(payloads) - 1]
        assert len(found) in (len(payloads) - 1, len(payloads))  # whole again if only zeros were lost


@pytest.mark.slow
@given(PAYLOADS, st.data())
@settings(max_examples=examples(150), deadline=None)
def test_a_flipped_bit_anywhere_is_told_with_its_place(payloads: list[bytes], data: st.DataObject) -> None:
    with folder() as path:
        positions = write(path, payloads)
        file = only_file(path)
        content = bytearray(file.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(content)
        frames = [q.offset for q in positions] + [positions[-1].offset + HEADER_BYTES + len(payloads[-1])]
        hit = max((offset for offset in frames if offset <= at), default=0)
        reader, seen = JournalReader(path).read(), []
        with pytest.raises(Corrupt, match=f"damaged at byte {hit}:") as caught:
            seen += [next(reader) for _ in range(len(payloads) + 1)]
        assert str(file) in str(caught.value)
        assert read_until_damage(path) == payloads[: frames.index(hit) if hit else 0]


def read_until_damage(path: Path) -> list[bytes]:
    found, reader = [], JournalReader(path).read()
    with suppress(Corrupt):
        while True:
            found.append(next(reader)[1])
    return found


def test_a_record_longer_than_a_reading_chunk_comes_back_whole(tmp_path: Path) -> None:
    payloads = [b"a" * 10, os.urandom(3 << 20), b"b" * 10, os.urandom(1 << 20)]
    write(tmp_path, payloads)
    assert read_all(tmp_path) == payloads


def test_damage_inside_a_long_record_is_told(tmp_path: Path) -> None:
    write(tmp_path, [os.urandom(3 << 20), b"b"], segment_bytes=8 << 20)
    content = bytearray(only_file(tmp_path).read_bytes())
    content[2 << 20] ^= 1
    only_file(tmp_path).write_bytes(content)
    with pytest.raises(Corrupt, match="damaged at byte 8: the record's payload"):
        read_all(tmp_path)


def test_a_reader_follows_several_writers_at_once(tmp_path: Path) -> None:
    first, second = (JournalWriter(tmp_path, fsync_every_s=None) for _ in range(2))
    reader, cursor, seen = JournalReader(tmp_path), Cursor(), []
    for turn in range(5):
        first.append(b"first %d" % turn)
        second.append_many([b"second %d" % turn, b"more %d" % turn])
        batch, cursor = reader.read_batch(cursor)
        seen.append([payload for _, payload in batch])
    first.close()
    second.close()
    assert seen == [[b"first %d" % turn, b"second %d" % turn, b"more %d" % turn] for turn in range(5)]


def test_a_segment_is_live_until_its_writer_closes_it(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path)
    writer.append(b"a")
    assert [segment.live for segment in JournalReader(tmp_path).segments()] == [True]
    writer.close()
    assert [segment.live for segment in JournalReader(tmp_path).segments()] == [False]


def test_the_next_segment_is_begun_before_one_is_full_and_leaves_nothing_where_nobody_needs_it(tmp_path: Path) -> None:
    payloads = [bytes([number]) * 4096 for number in range(200)]
    writer = JournalWriter(tmp_path, segment_bytes=1 << 19, fsync_every_s=0.001)
    for payload in payloads[:64]:  # half of one
        writer.append(payload)
    until = time.monotonic() + 60
    while len(JournalReader(tmp_path).segments()) < 2:
        assert time.monotonic() < until, "nobody began it"
        time.sleep(0.001)
    positions = [writer.append(payload) for payload in payloads[64:]]
    writer.close()
    assert read_all(tmp_path) == payloads
    found = JournalReader(tmp_path).segments()
    assert [one.name for one in found] == sorted({position.segment for position in positions})
    assert not any(one.live for one in found)
    for file in tmp_path.glob("*.journal"):
        assert file.stat().st_blocks * 512 < file.stat().st_size + (1 << 16), "room that is not needed is given back"


def test_only_what_is_read_and_finished_is_dropped(tmp_path: Path) -> None:
    positions = write(tmp_path, [b"x" * 50] * 6, segment_bytes=100)
    reader = JournalReader(tmp_path)
    _, half = reader.read_batch(Cursor(), 3)
    with JournalWriter(tmp_path) as live:
        live.append(b"live")
        dropped = reader.drop_read(half)
        assert dropped == sorted({position.segment for position in positions[:2]})
        _, cursor = reader.read_batch(half)
        reader.drop_read(cursor)
        assert [segment.live for segment in reader.segments()] == [True]
        live.append(b"more")
        batch, cursor = reader.read_batch(cursor)
        assert [payload for _, payload in batch] == [b"more"]
        assert list(cursor.offsets) == [batch[0][0].segment], "segments that are gone are forgotten"


def test_segments_older_than_a_position_are_dropped_and_say_so(tmp_path: Path) -> None:
    positions = write(tmp_path, [b"x" * 50] * 6, segment_bytes=100)
    reader = JournalReader(tmp_path)
    assert reader.drop_before(positions[4]) == sorted({position.segment for position in positions[:4]})
    assert [position for position, _ in reader.read()] == positions[4:]
    with pytest.raises(NotFound, match="is gone"):
        reader.get(positions[0])


def test_a_file_that_shrank_under_its_cursor_is_told(tmp_path: Path) -> None:
    write(tmp_path, [b"a" * 100, b"b" * 100])
    _, cursor = JournalReader(tmp_path).read_batch(Cursor())
    os.truncate(only_file(tmp_path), 30)
    with pytest.raises(Corrupt, match="shorter than"):
        JournalReader(tmp_path).read_batch(cursor)


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    write(tmp_path, [b"a"])
    only_file(tmp_path).write_bytes(b"not a journal at all")
    with pytest.raises(Corrupt, match="does not start as a journal"):
        read_all(tmp_path)


def test_a_folder_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert read_all(tmp_path / "none") == []
    assert JournalReader(tmp_path / "none").segments() == []


def test_a_closed_writer_refuses_records(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path)
    writer.append(b"a")
    writer.close()
    writer.close()
    with pytest.raises(Invalid, match="closed"):
        writer.append(b"b")


def test_threads_share_a_writer(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, segment_bytes=2_000) as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: writer.append(b"%d" % number), range(400)))
    assert sorted(map(int, read_all(tmp_path))) == list(range(400))


FULL = """
import resource, signal, sys
from pathlib import Path
from loopwright.core import Unavailable
from loopwright.store import JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = JournalWriter(Path(sys.argv[1]), fsync_every_s=None)
writer.append(b"first")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    writer.append_many([b"x" * 300] * 10)
except Unavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(b"last")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file size limits")
def test_a_batch_that_does_not_fit_on_the_disk_leaves_no_part_of_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert f"the journal in {tmp_path} cannot be written: {os.strerror(errno.EFBIG)}" in done.stdout
    assert read_all(tmp_path) == [b"first", b"last"]


KILLED = r"""
import sys
from pathlib import Path
from loopwright.store import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), segment_bytes=20_000)
number = 0
while True:
    batch = [b"%d %s" % (number + i, b"x" * (number % 700)) for i in range(number % 5 + 1)]
    writer.append_many(batch)
    number += len(batch)
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
"""


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(4))
def test_kill_9_loses_no_record_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(0.02 + seed * 0.07)
    process.send_signal(signal.SIGKILL)
    acknowledged = int([first, *process.stdout.read().split()][-1])
    process.wait()
    numbers = [int(payload.split()[0]) for payload in read_all(tmp_path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= acknowledged > 0
    assert not any(segment.live for segment in JournalReader(tmp_path).segments())


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        JournalWriter(tmp_path / "file").append(b"a")
