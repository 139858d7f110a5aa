"""What becomes of runs when their process ends: by itself, by an exception, by a signal."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from types import FrameType, TracebackType

from loopwright.recording.spooling import close_spools
from loopwright.track import Recorder

_open: dict[str, Recorder] = {}
_why: list[BaseException] = []
_armed_in = 0


def end_with_the_process(run: Recorder) -> None:
    """End a run with this process, if it has not ended before."""
    _open[run.id] = run
    _arm()


def has_ended(run: Recorder) -> None:
    """Think of a run no longer."""
    _open.pop(run.id, None)


def _arm() -> None:
    """See to it that this process's end is noticed; once per process."""
    global _armed_in
    if _armed_in == os.getpid():
        return
    _armed_in = os.getpid()
    atexit.register(_end_all)
    _watch_exceptions()
    if threading.current_thread() is threading.main_thread():
        _watch_termination()
    in_child = sys.modules.get("multiprocessing.process")
    if in_child is not None and in_child.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _end_all, exitpriority=10)  # such a process ends without atexit


def _end_all() -> None:
    """End what is still open, the innermost run first."""
    for run in list(reversed(_open.values())):
        _end(run)
    close_spools()


def _end(run: Recorder) -> None:
    run.__exit__(None, _why[-1] if _why else None, None)


def _watch_exceptions() -> None:
    before = sys.excepthook

    def note(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _why.append(error)
        before(kind, error, trace)

    sys.excepthook = note


def _watch_termination() -> None:
    """Let SIGTERM unwind the main thread, as Ctrl-C does, so that `with` blocks end; where nobody else handles it."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, _frame: FrameType | None) -> None:
    stop = SystemExit(128 + number)
    _why.append(stop)
    raise stop


def _after_fork() -> None:
    """The runs that were open are those of the process that forked; this one may be terminated at once."""
    _open.clear()
    if signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
