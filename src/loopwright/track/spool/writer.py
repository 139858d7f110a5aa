"""The writing side of a spool: a point is packed into mapped memory, which outlives the process, without a system call.

The pages of a mapped file belong to the system: a process that is killed at any moment leaves in them whatever it
wrote. Only a crash of the whole machine can take what the system had not yet written to the disk.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from loopwright.core import new_id
from loopwright.track.spool.folders import FILES, RUNS, About, make_folder, remove_folder
from loopwright.track.spool.layout import RECORD, SLOT_BYTES, note_bytes, seed_of, write_note
from loopwright.track.spool.notes import Note, RunBegan, RunEnded, SeriesNamed, encode_note
from loopwright.track.spool.segments import CAN_PREPARE, Spare, make_segment, make_spare, segment_path

log = logging.getLogger("loopwright.track")

SEGMENT_BYTES = 8 << 20
_RESERVE_BYTES = 16 << 10  # at a segment's end, for notes: a run can end though there is no room for points
_MAX_WAITING_BYTES = 4 << 20
_RETRY_S = 1.0


class Place(NamedTuple):
    """How far a writer has come."""

    segment: int
    at: int


class SpoolWriter:
    """One process's spool. Thread-safe; safe across fork: a child that records gets a spool of its own.

    The first attributes are public because the path of a point (`Recorder.log_metric`) is written out in one
    function: it takes `lock`, and while `at < limit` packs its slot at `at` of `map`.
    """

    def __init__(
        self, root: Path, about: About, *, max_bytes: int = 4 << 30, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        """Args:
        root: the folder of all spools.
        about: where the runs belong.
        max_bytes: what undelivered segments may take on the disk, at most.

        Nothing is written yet. A disk that is full, or a folder that cannot be written, is no error but a loss that
        is counted and told: recording never fails what it records.
        """
        self.lock = threading.RLock()
        self.at = self.limit = self.seed = 0
        self.map: mmap.mmap | bytearray = bytearray()
        self.root, self.about, self.max_bytes = root, about, max_bytes
        self.segment_bytes = segment_bytes
        self.wake: Callable[[], None] = _nobody
        self.series: dict[int, tuple[str, str]] = {}
        self._runs: dict[str, RunBegan] = {}
        self._next_series = 1
        self.lost = self.lost_notes = self.file_bytes = 0
        self._waiting: list[bytes] = []
        self._turning = False
        self._late_notes: list[bytes] = []
        self._late_points: list[bytes] = []
        self._told = False
        self._courier = ""
        self._reset()
        _writers.append(self)

    def _reset(self) -> None:
        self.id, self.folder, self._lock_descriptor = "", self.root, -1
        self.segment, self.size = 0, 0
        self.sealed: list[Place] = []
        self._spare: Spare | None = None
        self._retry_at = 0.0
        self._trouble = ""
        self.at = self.limit = 0
        self.map = bytearray()
        self.pid = os.getpid()

    def begin_run(self, note: RunBegan) -> None:
        """Record a run here."""
        with self.lock:
            self.put(note)
            self._runs[note.run] = msgspec.structs.replace(note, resume=False)
            self._mark(note.run)

    def end_run(self, note: RunEnded) -> None:
        """Record the end of a run, and carry its series no longer into new segments."""
        with self.lock:
            self.put(note)
            self._runs.pop(note.run, None)
            with contextlib.suppress(OSError):
                (self.folder / RUNS / note.run).unlink()
            self.series = {number: named for number, named in self.series.items() if named[0] != note.run}

    def name_series(self, run: str, key: str) -> int:
        """A number for the points of one metric of a run."""
        with self.lock:
            number = self._next_series
            self._next_series += 1
            self.series[number] = (run, key)
            if self.segment or self._turning:  # a new segment begins with all names
                self.put(SeriesNamed([(number, run, key)]))
            return number

    def put(self, note: Note) -> None:
        """Write a note. Where there is no room it waits in memory for some, within a bound."""
        payload = encode_note(note)
        with self.lock:
            if self._turning:
                self._late_notes.append(payload)
            else:
                self._put(payload)

    def _put(self, payload: bytes) -> None:
        size = note_bytes(payload)
        if (self._waiting or self.at + size > self.size) and not self._turn(size):
            self._keep_waiting(payload)
            return
        self._write(payload, size)
        self.wake()

    def _write(self, payload: bytes, size: int) -> None:
        # As with a point: the place is ours before a signal's handler can run, and the map is the one that it is in.
        at, buffer, seed = self.at, self.map, self.seed
        self.at = at + size
        write_note(buffer, at, seed, payload, time.time_ns())

    def _keep_waiting(self, payload: bytes) -> None:
        if sum(map(len, self._waiting)) + len(payload) <= _MAX_WAITING_BYTES:
            self._waiting.append(payload)
        else:
            self.lost_notes += 1
        self._tell_loss()

    def make_room(self, points: Sequence[bytes]) -> bool:
        """Find room for packed points; call it with the lock held. False if the caller must not write them: they are
        lost, which is counted and told, or a signal's handler recorded them while a segment was being begun, and who
        begins it will write them."""
        if self._turning:
            self._late_points += points
            return False
        if self._turn(len(points) * SLOT_BYTES):
            return True
        self._lose(len(points))
        return False

    def _lose(self, points: int) -> None:
        self.lost += points
        self._tell_loss()

    def prepare(self) -> None:
        """Make the next segment ahead of its use. For a thread that may wait for the disk."""
        with self.lock:
            folder, soon = self.folder, self.segment > 0 and self.at > self.size // 4
            wanted = soon and CAN_PREPARE and self._spare is None and self._room_for(self.segment_bytes)
        if not wanted:
            return
        try:
            spare = make_spare(folder, self.segment_bytes)
        except OSError:  # who needs the room is told
            return
        with self.lock:
            taken = self._spare is None and self.folder == folder
            if taken:
                self._spare = spare
        if not taken:
            spare.path.unlink(missing_ok=True)

    def place(self) -> Place:
        """How far this writer has come."""
        with self.lock:
            return Place(self.segment, self.at)

    def delivered(self, segment: int) -> None:
        """Note that a sealed segment is delivered and removed."""
        with self.lock:
            self.sealed = [place for place in self.sealed if place.segment != segment]

    def file_delivered(self, size_bytes: int) -> None:
        """Note that a file is delivered and removed."""
        with self.lock:
            self.file_bytes -= size_bytes

    def file_path(self, name: str, size_bytes: int) -> Path:
        """Where a file of that name and size waits for its delivery.

        Raises:
            OSError: there is no room.
        """
        with self.lock:
            if not self.segment and not self._turn(SLOT_BYTES):
                raise OSError(self._trouble)
            if not self._room_for(size_bytes):
                raise OSError(self._full())
            self.file_bytes += size_bytes
        (self.folder / FILES).mkdir(exist_ok=True)
        return self.folder / FILES / name

    def close(self, *, remove: bool) -> None:
        """Stop writing; with `remove`, everything is delivered and the folder goes."""
        with self.lock:
            if self in _writers:
                _writers.remove(self)
            folder, descriptor, opened = self.folder, self._lock_descriptor, bool(self.id)
            self._reset()
        if opened and remove:
            remove_folder(folder)
        if descriptor >= 0:
            os.close(descriptor)

    def _turn(self, need: int) -> bool:
        """Go on in a new segment; False if none can be had (tried again after a second)."""
        if os.getpid() != self.pid:
            _forked(self)
        if time.monotonic() < self._retry_at:
            return False
        # This thread holds the lock, yet a signal's handler may record in the middle: with no room it comes to us.
        self._turning, self.limit = True, 0
        try:
            self._begin(need)
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_S
            self._trouble = f"{self.folder}: {error.strerror or error}"
            return False
        finally:
            self._turning = False
            self._bring_late()
        self.wake()
        return True

    def _bring_late(self) -> None:
        """Write what signals' handlers recorded while a segment was being begun."""
        notes, self._late_notes = self._late_notes, []
        points, self._late_points = self._late_points, []
        for payload in notes:
            self._put(payload)
        for body in points:
            if self.at >= self.limit and not self.make_room([body]):
                continue
            at, buffer, seed = self.at, self.map, self.seed
            self.at = at + SLOT_BYTES
            RECORD.pack_into(buffer, at, crc32(body, seed ^ at), body)

    def _begin(self, need: int) -> None:
        if not self.id:
            self._open()
        names = encode_note(SeriesNamed([(number, *named) for number, named in list(self.series.items())]))
        need += sum(map(note_bytes, self._waiting))
        fresh = self._next_map(max(self.segment_bytes, 4 * (note_bytes(names) + need) + _RESERVE_BYTES))
        if self.segment:
            self.sealed.append(Place(self.segment, self.at))
        self.segment += 1
        self.map, self.at, self.size = fresh, 0, len(fresh)
        self.seed = seed_of(self.id, self.segment)
        for payload in (names, *self._waiting):
            self._write(payload, note_bytes(payload))
        self._waiting = []
        self.limit = self.size - min(_RESERVE_BYTES, self.size // 4)

    def _open(self) -> None:
        """Make the spool's folder."""
        spool = new_id()
        about = msgspec.structs.replace(
            self.about, pid=self.pid, began_us=time.time_ns() // 1000, courier=self._courier
        )
        self._lock_descriptor = make_folder(self.root, spool, about)
        self.id, self.folder = spool, self.root / spool
        for run in self._runs:
            self._mark(run)

    def _next_map(self, size: int) -> mmap.mmap:
        """The map of the next segment's file."""
        path, spare = segment_path(self.folder, self.segment + 1), self._spare
        if spare is not None and len(spare.map) >= size:
            spare.path.rename(path)
            self._spare = None
            return spare.map
        if not self._room_for(size):
            raise OSError(self._full())
        return make_segment(path, size)

    def _mark(self, run: str) -> None:
        """Note that a run began here and has not ended. A forked process leaves that to the one it came from."""
        if self.id and not self._courier:
            with contextlib.suppress(OSError):  # no room: told where something is written
                (self.folder / RUNS).mkdir(exist_ok=True)
                (self.folder / RUNS / run).touch()

    def _room_for(self, size: int) -> bool:
        kept = len(self.sealed) * self.segment_bytes + self.size + self.file_bytes
        return kept + size <= self.max_bytes

    def _full(self) -> str:
        return f"the {self.max_bytes:,} bytes that a spool may take are full (max_spool_bytes)"

    def _tell_loss(self) -> None:
        if self._told or not (self.lost or self.lost_notes):
            return
        self._told = True
        tell(
            f"there is no room to record in: {self._trouble}. What is logged from here on is LOST, and counted; "
            "the run goes on (free some space)"
        )


def tell(message: str) -> None:
    """Say something that a person must see though nothing stops: in the program's log, or on stderr if it has none."""
    if log.hasHandlers():
        log.warning(message)
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be closed, or None
        sys.stderr.write(f"\nloopwright: {message}\n")
        sys.stderr.flush()


_writers: list[SpoolWriter] = []


def _nobody() -> None:
    """Wakes nobody: a forked child's spool is delivered by the process that it came from."""


def _before_fork() -> None:
    for writer in _writers:
        writer.lock.acquire()


def _after_fork_here() -> None:
    for writer in reversed(_writers):
        writer.lock.release()


def _after_fork_in_child() -> None:
    for writer in _writers:
        _forked(writer)


def _forked(writer: SpoolWriter) -> None:
    """A child may not write into its parent's segments, nor keep its lock."""
    if writer.pid == os.getpid():
        return
    descriptor = writer._lock_descriptor
    writer._courier = writer._courier or writer.id
    writer.wake = _nobody
    writer.lock = threading.RLock()
    writer._reset()
    writer.lost = writer.lost_notes = writer.file_bytes = 0
    writer._told = writer._turning = False
    writer._waiting = [encode_note(note) for note in writer._runs.values()]
    if descriptor >= 0:
        with contextlib.suppress(OSError):
            os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork_in_child)
