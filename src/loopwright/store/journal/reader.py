"""Read a journal while it is being written, by one writer or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from loopwright.core import Corrupt, NotFound
from loopwright.store.journal.frames import SIGNATURE, Fault, frame_at
from loopwright.store.journal.model import Cursor, Position, Segment
from loopwright.store.journal.segments import describe, names_in, path_of

_CHUNK_BYTES = 1 << 20


class JournalReader:
    """Reads all segments in a folder: segment by segment from the oldest, records in the order of their writing.

    What a writer has appended is visible at once. A tail that a dead writer left torn, or that a living one is
    writing now, is passed over; it was never acknowledged. Holds no state: the caller keeps the cursor.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, after: Cursor | Position | None = None, limit: int = 10_000) -> Iterator[tuple[Position, bytes]]:
        """Records in order, `limit` at most.

        Args:
            after: a cursor: what it has not passed. A position: what sorts behind it. None: everything.

        Raises:
            Corrupt: a record was damaged after it was written. Those before it come first.
        """
        for position, payload, _end in self._walk(after, limit):
            yield position, payload

    def read_batch(
        self, cursor: Cursor, limit: int = 10_000, enough: Callable[[bytes], bool] | None = None
    ) -> tuple[list[tuple[Position, bytes]], Cursor]:
        """Up to `limit` records that the cursor has not passed, and the cursor behind them.

        The new cursor has forgotten segments that are gone.

        Args:
            enough: is shown each record in turn, and ends the batch behind it by True.

        Raises:
            Corrupt: a record was damaged after it was written.
        """
        present = set(names_in(self._folder))
        offsets = {name: offset for name, offset in cursor.offsets.items() if name in present}
        batch = []
        for position, payload, end in self._walk(cursor, limit):
            batch.append((position, payload))
            offsets[position.segment] = end
            if enough is not None and enough(payload):
                break
        return batch, Cursor(offsets)

    def get(self, position: Position) -> bytes:
        """The record at a position that a writer or reader gave.

        Raises:
            NotFound: its segment is gone.
            Corrupt: it is damaged.
        """
        for found, payload, _end in self._segment(position.segment, position.offset, must_exist=True):
            if found == position:
                return payload
        raise Corrupt(f"there is no record at {position.offset}", where=str(path_of(self._folder, position.segment)))

    def segments(self) -> list[Segment]:
        """The segments, oldest first."""
        found = (describe(self._folder, name) for name in names_in(self._folder))
        return [segment for segment in found if segment is not None]

    def drop_before(self, position: Position) -> list[str]:
        """Delete the segments older than the one of `position` whose writers are done; the names of those deleted."""
        return self._drop(segment for segment in self.segments() if segment.name < position.segment)

    def drop_read(self, cursor: Cursor) -> list[str]:
        """Delete the segments that the cursor has wholly passed and whose writers are done.

        Raises:
            Corrupt: what the cursor has not passed is damaged.
        """
        # Whether a writer is done must be asked before whether something is unread: it may write in between.
        done = [segment for segment in self.segments() if not segment.live]
        return self._drop(segment for segment in done if not self._has_more(segment.name, cursor))

    def _has_more(self, name: str, cursor: Cursor) -> bool:
        return next(self._segment(name, cursor.offsets.get(name, 0)), None) is not None

    def _drop(self, segments: Iterator[Segment]) -> list[str]:
        dropped = [segment.name for segment in segments if not segment.live]
        for name in dropped:
            path_of(self._folder, name).unlink(missing_ok=True)
        return dropped

    def _walk(self, after: Cursor | Position | None, limit: int) -> Iterator[tuple[Position, bytes, int]]:
        left = limit
        for name, offset, skip in self._starts(after):
            if left <= 0:
                return
            for position, payload, end in self._segment(name, offset):
                if position.offset == skip:
                    continue
                yield position, payload, end
                left -= 1
                if left <= 0:
                    return

    def _starts(self, after: Cursor | Position | None) -> Iterator[tuple[str, int, int]]:
        """Where to begin in each segment, and the offset of a record there that was read already (-1 for none)."""
        for name in names_in(self._folder):
            if isinstance(after, Cursor):
                yield name, after.offsets.get(name, 0), -1
            elif after is None or name > after.segment:
                yield name, 0, -1
            elif name == after.segment:
                yield name, after.offset, after.offset

    def _segment(self, name: str, offset: int, must_exist: bool = False) -> Iterator[tuple[Position, bytes, int]]:
        path = path_of(self._folder, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            if must_exist:
                raise NotFound(f"the journal segment {name} is gone", next_step="it was dropped by retention") from None
            return
        try:
            yield from _Scan(path, name, descriptor).records(offset)
        finally:
            os.close(descriptor)


class _Scan:
    """One pass over one segment, in chunks; up to the size that the file had when the pass began."""

    def __init__(self, path: Path, name: str, descriptor: int) -> None:
        self._path, self._name, self._descriptor = path, name, descriptor
        self._size = os.fstat(descriptor).st_size

    def records(self, offset: int) -> Iterator[tuple[Position, bytes, int]]:
        if offset > self._size:
            raise self._corrupt(self._size, f"the file is shorter than the {offset} bytes that were read before")
        self._check_signature()
        base = max(offset, len(SIGNATURE))
        while base < self._size:
            buffer, at, need = self._read(base, _CHUNK_BYTES), 0, 0
            while True:
                found, end = frame_at(buffer, at)
                if isinstance(found, Fault):
                    need = end
                    break
                yield Position(self._name, base + at), found, base + end
                at = end
            base += at
            if found is Fault.END or base + need > self._size:
                return
            if found is not Fault.INCOMPLETE:
                if self._is_torn(base + need):
                    return
                raise self._corrupt(base, f"the record's {found.value} fails its checksum")
            if at == 0:
                yield from self._long_record(base, need)
                base += need

    def _long_record(self, base: int, size: int) -> Iterator[tuple[Position, bytes, int]]:
        found, _ = frame_at(self._read(base, size), 0)
        if isinstance(found, Fault):
            if self._is_torn(base + size):
                self._size = base
                return
            raise self._corrupt(base, f"the record's {found.value} fails its checksum")
        yield Position(self._name, base), found, base + size

    def _read(self, base: int, size: int) -> bytes:
        os.lseek(self._descriptor, base, os.SEEK_SET)
        parts, left = [], min(size, self._size - base)
        while left > 0 and (part := os.read(self._descriptor, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _check_signature(self) -> None:
        start = self._read(0, len(SIGNATURE))
        if len(start) == len(SIGNATURE) and start != SIGNATURE and start.strip(b"\0"):
            raise self._corrupt(0, "the file does not start as a journal segment does")

    def _is_torn(self, frame_end: int) -> bool:
        """Whether the file's end is zeros that reach into the frame: what a power cut leaves of an unsynced write."""
        base = self._size
        while base > 0:
            start = max(0, base - _CHUNK_BYTES)
            kept = self._read(start, base - start).rstrip(b"\0")
            if kept:
                return start + len(kept) < frame_end
            base = start
        return True

    def _corrupt(self, offset: int, what: str) -> Corrupt:
        return Corrupt(
            f"the journal is damaged at byte {offset}: {what}",
            where=str(self._path),
            next_step="restore the file from a backup; loopwright fsck lists what else is damaged",
        )
