"""The thread that brings what a process recorded to its workspace, and never lets the process wait."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import LoopwrightError
from loopwright.track.spool.contract import SpoolTarget, Watcher
from loopwright.track.spool.folders import spool_about, spools_in
from loopwright.track.spool.notes import SpoolBatch
from loopwright.track.spool.trail import Trail
from loopwright.track.spool.writer import SpoolWriter, tell

if TYPE_CHECKING:
    from loopwright.track.spool.delivering import Delivery

log = logging.getLogger("loopwright.track")

_PAUSE_S = 0.5
_LEAST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_SWEEP_EVERY_S = 60.0
_MAX_TOLD = 100


class Shipper(Watcher):
    """Delivers one writer's spool, those of processes forked from it, and what dead processes left beside it."""

    def __init__(self, writer: SpoolWriter, open_target: Callable[[], SpoolTarget]) -> None:
        self.writer, self.trail = writer, Trail(writer)
        self._open_target = open_target
        self._target: SpoolTarget | None = None
        self._wake, self._changed = threading.Event(), threading.Condition()
        self._deliveries: dict[str, Delivery] = {}
        self._rounds_begun = self._rounds_done = self._failures = 0
        self._stopping = self._urgent = self._noted = False
        self._next_sweep = 0.0
        self._told: set[tuple[str, str]] = set()
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="loopwright-spool", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self.writer.wake = self._note
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything that was recorded up to now is delivered; False when that takes longer, or when the
        workspace does not answer."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            wanted = self._rounds_begun + 1
            self._urgent = True
            self._wake.set()
            while self._rounds_done < wanted and self._thread.is_alive():
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return False
                self._urgent = True
                self._wake.set()
            return not self.trouble

    def stop(self, timeout_s: float) -> bool:
        """Deliver what is left within a time, then end the thread and the writer; whether everything is delivered."""
        done = self.flush(timeout_s)
        self._stopping = True
        self._wake.set()
        if done:
            self._thread.join(timeout_s)
        self.writer.close(remove=done and not self._thread.is_alive())
        return done

    def _run(self) -> None:
        while not self._stopping:
            self._wait()
            with self._changed:
                self._rounds_begun += 1
                self._urgent = self._noted = False
            self._round()
            with self._changed:
                self._rounds_done = self._rounds_begun
                self._changed.notify_all()
        if self._target is not None:
            self._target.close()

    def _note(self) -> None:
        # No event is set: its lock is not to be taken twice, and a signal's handler may log in the middle of a call.
        self._noted = True

    def _wait(self) -> None:
        """Let some time pass: more after failures, less where a note was written; none where somebody waits."""
        deadline = time.monotonic() + min(_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        while not (self._urgent or self._stopping):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self._wake.wait(min(left, _LEAST_PAUSE_S)):
                self._wake.clear()
            elif self._noted and not self._failures:
                return

    def _round(self) -> None:
        self.writer.prepare()
        try:
            self._deliver()
        except (LoopwrightError, OSError) as error:
            self._failed(str(error))
        except Exception as error:  # a defect of ours must not end recording: it is told, with its trace
            log.exception("delivering metrics failed")
            self._failed(f"{type(error).__name__}: {error}")
        else:
            if self.trouble:
                log.warning("the workspace %s answers again", self.writer.about.where)
            self._failures, self.trouble = 0, ""

    def _failed(self, why: str) -> None:
        self._failures = min(self._failures + 1, 10)
        if not self.trouble:
            log.warning("what is recorded waits in %s: %s", self.writer.folder, why)
        self.trouble = why
        self.trail.update()

    def _deliver(self) -> None:
        if self._target is None:
            with opening:
                self._target = self._open_target()
        place = self.writer.place()
        if place.segment:
            mine = self._delivery(self.writer.folder, fresh=True)
            mine.advance(self._target, place, alive=True, watcher=self)
            self._tell_refused(mine)
        for folder in self._forks():
            self._delivery(folder).advance(self._target, alive=True)
            self._tell_refused(self._delivery(folder))
        if time.monotonic() >= self._next_sweep or self._stopping:
            self._next_sweep = time.monotonic() + _SWEEP_EVERY_S
            self._sweep(self._target)

    def seen(self, batch: SpoolBatch) -> None:
        """A batch was read."""
        self.trail.see(batch)

    def segment_done(self, segment: int) -> None:
        """A segment was delivered and removed."""
        self.writer.delivered(segment)

    def file_done(self, size_bytes: int) -> None:
        """A file was delivered and removed."""
        self.writer.file_delivered(size_bytes)

    def _delivery(self, folder: Path, *, fresh: bool = False) -> Delivery:
        from loopwright.track.spool.delivering import Delivery

        if folder.name not in self._deliveries:
            self._deliveries[folder.name] = Delivery(folder, fresh=fresh)
        return self._deliveries[folder.name]

    def _forks(self) -> list[Path]:
        """The spools of processes that were forked from this one."""
        mine = self.writer.id
        others = [folder for folder in spools_in(self.writer.root) if folder.name > mine] if mine else []
        return [folder for folder in others if spool_about(folder).courier == mine]

    def _tell_refused(self, delivery: Delivery) -> None:
        for refusal in delivery.refused:
            if (refusal.run, refusal.reason) not in self._told and len(self._told) < _MAX_TOLD:
                self._told.add((refusal.run, refusal.reason))
                tell(f"the workspace refuses {refusal.what} of run {refusal.run}: {refusal.reason}")
        delivery.refused.clear()

    def _sweep(self, target: SpoolTarget) -> None:
        from loopwright.track.spool.sweeping import deliver_dead, left_behind

        for folder in left_behind(self.writer.root, self.writer.about):
            self._deliveries.pop(folder.name, None)
            found = deliver_dead(target, folder)
            if found is not None:
                self._tell_refused(found)


opening = threading.Lock()
"""Held while a workspace is opened, which imports modules: a fork waits for it, since no child may inherit an import
that is half done."""
_FORK_WAITS_S = 5.0


_fork_holds = False


def _before_fork() -> None:
    global _fork_holds
    _fork_holds = opening.acquire(timeout=_FORK_WAITS_S)


def _after_fork_here() -> None:
    if _fork_holds:
        opening.release()


def _after_fork_in_child() -> None:
    global opening
    opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork_in_child)
