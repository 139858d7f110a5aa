"""What the workers of one address tell each other in shared memory: who lives, and how many connections each has.

A page of a file that all of them map: a note costs a store into memory, and needs no lock since each worker writes its
own line alone, a number at a time and each number whole: a reader sees it as it was before or after, never between.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import msgspec

_LINE_BYTES = 64  # a cache line each, so that no two workers write to the same one
_LINE_NUMBERS = _LINE_BYTES // 8
_PID, _BEAT, _CONNECTIONS, _RUNNING = range(4)


class Line(msgspec.Struct, frozen=True):
    """What one worker tells.

    Attributes:
        pid: 0 while none has this place.
        beat_ns: when its event loop last had a turn, on the monotonic clock, which processes of one machine share.
        connections: how many it holds.
        running: 1 + the place, among the models that it named, of the one that it runs just now; 0 for none.
    """

    pid: int
    beat_ns: int
    connections: int
    running: int

    @property
    def silent_s(self) -> float:
        """How long its event loop has had no turn."""
        return (time.monotonic_ns() - self.beat_ns) / 1e9


class Board:
    """The shared page. Each worker writes its own line; anybody reads all. A line that is read may be half old."""

    def __init__(self, path: Path, places: int) -> None:
        """Args:
        path: the file; it is made if it is missing.
        places: how many workers there are.
        """
        self.places = places
        size = places * _LINE_BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
            self._page = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        # Not struct, which clears the place of a number before it writes it: a reader could meet a beat of 0, and take
        # a worker that is well for one that hangs. An aligned number of a view is stored at once.
        self._numbers = memoryview(self._page).cast("q")

    def read(self, place: int) -> Line:
        """One worker's line."""
        start = place * _LINE_NUMBERS
        return Line(*self._numbers[start : start + 4])

    def take(self, place: int, pid: int) -> None:
        """Begin a line: this process has the place from now on."""
        self.note_connections(place, 0)
        self.note_running(place, 0)
        self.beat(place)
        self._numbers[place * _LINE_NUMBERS + _PID] = pid

    def clear(self, place: int, pid: int) -> None:
        """Give a place up, if that process has it still."""
        if self.read(place).pid == pid:
            for which in (_PID, _BEAT, _CONNECTIONS, _RUNNING):
                self._numbers[place * _LINE_NUMBERS + which] = 0

    def beat(self, place: int) -> None:
        """Note that the event loop has had a turn."""
        self._numbers[place * _LINE_NUMBERS + _BEAT] = time.monotonic_ns()

    def note_connections(self, place: int, count: int) -> None:
        """Note how many connections the worker holds."""
        self._numbers[place * _LINE_NUMBERS + _CONNECTIONS] = count

    def note_running(self, place: int, number: int) -> None:
        """Note which model runs on the event loop now; 0 when it is done."""
        self._numbers[place * _LINE_NUMBERS + _RUNNING] = number

    def close(self) -> None:
        """Let go of the page."""
        self._numbers.release()
        self._page.close()
