"""Write a journal: what `append` returned for survives kill -9; `flush(sync=True)` makes it survive a power cut."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from loopwright.core import Invalid, Unavailable
from loopwright.store.journal.frames import MAX_PAYLOAD_BYTES, SIGNATURE, end_frame, frame
from loopwright.store.journal.model import Position
from loopwright.store.journal.segments import begin_segment, give_back_room, path_of, reserve_room

_MOST_ENDED = 4  # segments that the thread has yet to put on the disk; from then on, who appends waits for it


class JournalWriter:
    """Appends records to segments of its own in a folder that it may share with other writers.

    Each append is handed to the operating system before it returns, so that it outlives this process; a thread asks
    for it to be put on the disk at most `fsync_every_s` later, and does what takes long about segments: it begins the
    next one in time, with room on the disk, and puts a full one there. Thread-safe. A new writer begins a new segment:
    it never touches what another left behind, torn tail included. A child process after fork must not use its
    parent's.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 64 << 20, fsync_every_s: float | None = 0.1) -> None:
        """Args:
        folder: is made by the first append if it is missing.
        segment_bytes: a new segment is begun when one has grown to this size.
        fsync_every_s: 0 puts each append on the disk before it returns; None leaves that to the system.
        """
        self._folder, self._segment_bytes, self._fsync_every_s = folder, segment_bytes, fsync_every_s
        self._lock = threading.Lock()
        self._syncing = threading.Lock()  # taken before the other, and for as long as the disk takes
        self._segment, self._descriptor, self._size = "", -1, 0
        self._next: tuple[str, int] | None = None  # a segment that nothing is in yet, and its descriptor
        self._ended: list[int] = []  # descriptors of segments that are full, and perhaps not on the disk
        self._dirty, self._closing = threading.Event(), threading.Event()
        self._syncer: threading.Thread | None = None
        self._sync_error: OSError | None = None

    def append(self, payload: bytes) -> Position:
        """Write one record; where it stands. Raises as `append_many` does."""
        return self._append((payload,))

    def append_many(self, payloads: Sequence[bytes]) -> None:
        """Write records with one call to the system: all of them or, on an error, none.

        Raises:
            Invalid: a record is longer than 1 GiB, or the writer is closed.
            Unavailable: the disk is full, read-only or failing; nothing was written.
        """
        if payloads:
            self._append(payloads)

    def flush(self, sync: bool = True) -> None:
        """Return when everything appended so far is on the disk (`sync`); without `sync` there is nothing to do.

        Raises:
            Unavailable: the disk failed.
        """
        if not sync:
            return
        try:
            self._sync()
        except OSError as error:
            raise _unavailable(self._folder, error) from error

    def close(self) -> None:
        """Put everything on the disk and finish the segment. A second close does nothing.

        Raises:
            Unavailable: the disk failed.
        """
        self._closing.set()
        self._dirty.set()
        if self._syncer is not None:
            self._syncer.join()
            self._syncer = None
        try:
            try:
                with self._lock:
                    self._drop_next()
                    if self._descriptor >= 0:
                        give_back_room(self._descriptor)
                    self._finish_segment()
            finally:
                self._sync()
        except OSError as error:
            raise _unavailable(self._folder, error) from error

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _append(self, payloads: Sequence[bytes]) -> Position:
        """Write records; where the first stands."""
        if max(map(len, payloads)) > MAX_PAYLOAD_BYTES:
            raise Invalid(f"a journal record may have {MAX_PAYLOAD_BYTES} bytes at most")
        data = frame(payloads[0]) if len(payloads) == 1 else b"".join(map(frame, payloads))
        with self._lock:
            try:
                self._raise_sync_error()
                start = self._write(data)
            except OSError as error:
                raise _unavailable(self._folder, error) from error
            segment = self._segment
        self._mark_dirty()
        return Position(segment, start)

    def _write(self, data: bytes) -> int:
        if self._closing.is_set():
            raise Invalid("this journal writer is closed")
        if self._descriptor >= 0 and self._size >= self._segment_bytes:
            self._finish_segment()
        if self._descriptor < 0:
            (self._segment, self._descriptor), self._next = self._next or begin_segment(self._folder), None
            self._size = len(SIGNATURE)
        start = self._size
        try:
            _write_all(self._descriptor, data)
            if self._fsync_every_s == 0:
                os.fsync(self._descriptor)
        except OSError:
            self._take_back(start)
            raise
        self._size += len(data)
        return start

    def _take_back(self, size: int) -> None:
        """Cut off what a failed write left; where even that fails, leave the segment to its readers as it is."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            os.close(self._descriptor)
            self._descriptor = -1

    def _finish_segment(self) -> None:
        """End the segment; it is put on the disk later where a thread does that, and has not fallen behind."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        self._ended.append(descriptor)
        _write_all(descriptor, end_frame())
        if self._syncer is None or len(self._ended) > _MOST_ENDED:
            ended, self._ended = self._ended, []
            _put_on_disk(ended)

    def _drop_next(self) -> None:
        found, self._next = self._next, None
        if found is not None:
            path_of(self._folder, found[0]).unlink(missing_ok=True)
            os.close(found[1])

    def _mark_dirty(self) -> None:
        if not self._fsync_every_s or self._dirty.is_set():
            return
        self._dirty.set()
        if self._syncer is None:
            with self._lock:
                if self._syncer is None and not self._closing.is_set():
                    self._syncer = threading.Thread(target=self._run, name="loopwright-journal-sync", daemon=True)
                    self._syncer.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            if self._closing.wait(self._fsync_every_s):
                return
            self._dirty.clear()
            try:
                self._sync()
            except OSError as error:
                self._sync_error = error  # told to the next append, which can tell its caller
            self._begin_next()

    def _sync(self) -> None:
        with self._syncing:
            with self._lock:  # not for longer: appends need not wait, nor does a new segment close this one under us
                ended, self._ended = self._ended, []
                if self._descriptor >= 0:
                    ended.append(os.dup(self._descriptor))
            _put_on_disk(ended)

    def _begin_next(self) -> None:
        """Begin the next segment before this one is full, with room on the disk: who fills one will fill another."""
        with self._lock:
            is_soon = self._descriptor >= 0 and self._size > self._segment_bytes // 4
        if self._next is not None or not is_soon:
            return
        try:
            found = begin_segment(self._folder)
        except OSError:
            return  # told to the append that needs it, which tries again
        reserve_room(found[1], self._segment_bytes)
        with self._lock:
            self._next = found
            if self._segment > found[0]:  # the other was full sooner, and what follows must sort behind it
                self._drop_next()

    def _raise_sync_error(self) -> None:
        if self._sync_error is None:
            return
        error, self._sync_error = self._sync_error, None
        if self._descriptor >= 0:  # what the system holds of this segment is uncertain now: do not build on it
            os.close(self._descriptor)
            self._descriptor = -1
        raise error


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def _put_on_disk(descriptors: Sequence[int]) -> None:
    """Put these on the disk and close them, all of them, whatever fails."""
    failed: OSError | None = None
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as error:
            failed = error
        finally:
            os.close(descriptor)
    if failed is not None:
        raise failed


def _unavailable(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"the journal in {folder} cannot be written: {error.strerror or error}",
        next_step="free some space, or make the folder writable",
    )
