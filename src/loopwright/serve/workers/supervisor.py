"""Keeps N inference processes behind one address: starts them, starts again what dies, replaces and ends them.

The listening socket is made here and handed down, so a connection that no worker has taken yet outlives any of them.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from loopwright.core import Invalid, LoopwrightError, Unavailable
from loopwright.serve.arguments import ProcessSettings
from loopwright.serve.launch import START_S, InferenceProcess
from loopwright.serve.workers.board import Board
from loopwright.serve.workers.listening import listen, reserve
from loopwright.serve.workers.member import BOARD, Membership
from loopwright.serve.workers.peers import fold_gone, write_restarts
from loopwright.serve.workers.running import Blame, forget_names, name_of
from loopwright.serve.workers.silence import Silence

_LOOK_S = 0.05
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 15.0
_HEALTHY_AFTER_S = 60.0
_MOST_WORKERS = 256
_DRAIN_S = 12.0
HANG_S = 30.0


def pause_before(start: int) -> float:
    """How long to wait before a worker starts again, in seconds: it doubles with each start that did not last.

    Args:
        start: how many starts in a row ended within a minute.
    """
    return float(min(_FIRST_PAUSE_S * 2 ** min(start - 1, 20), _LONGEST_PAUSE_S)) if start > 0 else 0.0


def cause_of(code: int | None) -> str:
    """What an exit code tells of an end."""
    if code is None or code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


class WorkerPlan(msgspec.Struct, frozen=True):
    """What all workers of one address have in common.

    Attributes:
        settings: without a place.
        count: how many workers there are.
        storage_options: for the object store.
        start_s: how long one may take until it is ready.
        hang_s: how long an event loop may have no turn before its worker is killed.
    """

    settings: ProcessSettings
    count: int = 1
    storage_options: Mapping[str, str] = {}
    start_s: float = START_S
    hang_s: float = HANG_S


class Workers:
    """Running workers, which end when this process does. Use them in a `with`, or stop them. Thread-safe."""

    def __init__(
        self,
        plan: WorkerPlan,
        report: Callable[[str], None] | None = None,
        stderr: IO[bytes] | int | None = None,
    ) -> None:
        """Begin to start them; `wait_ready` says when they answer.

        Args:
            plan: what they do.
            report: is told, in one line, of each worker that ended; by default it is written to stderr.
            stderr: where their messages go; by default with ours.

        Raises:
            Unavailable: the port is in use.
            Invalid: the host is no address of this machine, or the count makes no sense.
        """
        if not 1 <= plan.count <= _MOST_WORKERS:
            raise Invalid(f"{plan.count} workers cannot be started", next_step=f"give 1 to {_MOST_WORKERS}")
        settings = plan.settings
        self._listener = listen(settings.host, settings.port)
        self._grpc = _reserved(settings, self._listener)
        port: int = self._listener.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"{'http' if settings.tls_cert is None else 'https'}://{host}:{port}"
        grpc_port = None if self._grpc is None else self._grpc.getsockname()[1]
        self.grpc = "" if grpc_port is None else f"{host}:{grpc_port}"
        self.folder = Path(tempfile.mkdtemp(prefix="loopwright-"))
        self.board = Board(self.folder / BOARD, plan.count)
        self._code: int | None = None
        settings = msgspec.structs.replace(settings, port=port, grpc_port=grpc_port)
        self._stopping = threading.Event()
        self._writing, self._blame = threading.Lock(), Blame(self.folder)
        report = report or _say
        self._places = [
            _Place(self, number, msgspec.structs.replace(plan, settings=settings), report, stderr)
            for number in range(plan.count)
        ]
        for place in self._places:
            place.thread.start()

    @property
    def listener(self) -> int:
        """The descriptor of the socket that they share."""
        return self._listener.fileno()

    @property
    def stopping(self) -> bool:
        """Whether they are being ended."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait, unless they are being ended; whether they are."""
        return self._stopping.wait(seconds)

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until all of them can answer; False if that did not come in time.

        Raises:
            Unavailable: one of them could not be started at all; the others are ended.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for place in self._places:
            if not place.ready.wait(None if end is None else max(0.0, end - time.monotonic())):
                return False
        failed = [place.failure for place in self._places if place.failure is not None]
        if failed:
            self.stop(_DRAIN_S)
            raise failed[0]
        return True

    @property
    def pids(self) -> list[int]:
        """The ids of the workers that live."""
        return [place.process.pid for place in self._places if place.process is not None]

    @property
    def pid(self) -> int:
        """The id of the first that lives; 0 if none does."""
        return next(iter(self.pids), 0)

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""
        return sum(place.restarts for place in self._places)

    def note_restart(self) -> None:
        """Make the restarts known to the workers, who tell them with their figures."""
        with self._writing, contextlib.suppress(OSError):
            write_restarts(self.folder, self.restarts)

    def bury(self, place: int, pid: int) -> str:
        """Take a process that ended off the board; what it counted goes on counting. For whom it worked just then."""
        line = self.board.read(place)
        name = name_of(self.folder, pid, line.running) if line.pid == pid else ""
        self.board.clear(place, pid)
        with self._writing, contextlib.suppress(OSError):
            forget_names(self.folder, pid)
            fold_gone(self.folder, pid)
        if not name:
            return ""
        with self._writing:
            is_out = self._blame.note(name, time.monotonic())
        fate = ", which is taken out now (load it by name to try again)" if is_out else ""
        return f" while it answered for endpoint {name!r}{fate}"

    @property
    def exit_code(self) -> int | None:
        """None until they were stopped."""
        return self._code

    def replace(self) -> None:
        """Put a new process in the place of each, one after the other; each old one answers what it has under way.

        Raises:
            Unavailable: a new one does not become ready; the old one goes on.
        """
        for place in self._places:
            place.replace()

    def stop(self, timeout_s: float = _DRAIN_S) -> int:
        """Let them answer what is under way and end; after `timeout_s` they are killed. 0, or the worst exit code."""
        self._stopping.set()
        for place in self._places:
            place.end()
        self._listener.close()  # who comes now is refused, and does not wait for a worker that has gone
        if self._grpc is not None:
            self._grpc.close()
        codes = [place.stop(timeout_s) for place in self._places]
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._code is None:
            self._code = next((code for code in codes if code), 0)
        return self._code

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Place:
    """One worker, and whoever takes its place after it."""

    def __init__(
        self,
        workers: Workers,
        number: int,
        plan: WorkerPlan,
        report: Callable[[str], None],
        stderr: IO[bytes] | int | None,
    ) -> None:
        self._workers, self._number, self._plan, self._report, self._stderr = workers, number, plan, report, stderr
        self.process: InferenceProcess | None = None
        self.ready = threading.Event()
        self.failure: LoopwrightError | None = None
        self.restarts = 0
        self._replacing, self._silence = threading.Lock(), Silence(2 * _LOOK_S)
        self.thread = threading.Thread(target=self._keep, name=f"loopwright-worker-{number}", daemon=True)

    def replace(self) -> None:
        """See Workers.replace."""
        with self._replacing:
            fresh = self._launch()
            old, self.process = self.process, fresh
        if old is not None:
            old.stop(_DRAIN_S)
            self._workers.bury(self._number, old.pid)

    def end(self) -> None:
        """Ask the process to end."""
        if self.process is not None:
            self.process.end()

    def stop(self, timeout_s: float) -> int:
        """Wait for the end of the process; its exit code."""
        process = self.process
        code = process.stop(timeout_s) if process is not None else 0
        if self.thread is not threading.current_thread():
            self.thread.join(timeout_s)
        return code

    def _keep(self) -> None:
        short_lives = 0
        while not self._workers.stopping:
            began = time.monotonic()
            why = self._live()
            if self._workers.stopping or self.failure is not None:
                return
            short_lives = 1 if time.monotonic() - began > _HEALTHY_AFTER_S else short_lives + 1
            pause_s = pause_before(short_lives)
            self._report(f"worker {self._number} {why}; it starts again in {pause_s:g} s")
            self.restarts += 1
            self._workers.note_restart()
            self._workers.pause(pause_s)

    def _live(self) -> str:
        """One process from its start to its end; why it ended."""
        try:
            process = self.process = self._launch()
        except (LoopwrightError, OSError) as error:
            if not self.ready.is_set():
                self.failure = error if isinstance(error, LoopwrightError) else Unavailable(str(error))
                self.ready.set()
            return f"could not be started: {error}"
        self.ready.set()
        hung = ""
        while True:
            with self._replacing:
                process = self.process
                if process.exit_code is not None:
                    break
            if self._workers.pause(_LOOK_S):
                return "was stopped"
            hung = hung or self._end_if_hung()
        code = process.stop()
        under = self._workers.bury(self._number, process.pid)
        return f"(process {process.pid}) {hung or f'ended by {cause_of(code)}'}{under if code else ''}"

    def _launch(self) -> InferenceProcess:
        member = Membership(self._workers.folder, self._number, self._plan.count, self._workers.listener)
        return InferenceProcess.launch(
            msgspec.structs.replace(self._plan.settings, member=member),
            storage_options=self._plan.storage_options,
            stderr=self._stderr,
            start_s=self._plan.start_s,
            given_up=lambda: self._workers.stopping,
        )

    def _end_if_hung(self) -> str:
        """Kill a process whose event loop has had no turn for long; what to tell of it."""
        line = self._workers.board.read(self._number)
        process = self.process
        silent_s = self._silence.look(line.pid, line.beat_ns, time.monotonic())
        if process is None or line.pid != process.pid or silent_s < self._plan.hang_s:
            return ""
        process.kill()
        return f"did nothing for {silent_s:.0f} s and was killed"


def _reserved(settings: ProcessSettings, listener: socket.socket) -> socket.socket | None:
    if settings.grpc_port is None:
        return None
    try:
        return reserve(settings.host, settings.grpc_port)
    except LoopwrightError:
        listener.close()
        raise


def _say(line: str) -> None:
    sys.stderr.write(f"loopwright-serve: {line}\n")
    sys.stderr.flush()
