"""The parent's side of worker processes: started when needed, asked one thing at a time, killed when they must end."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from loopwright.core import KINDS, Corrupt, Invalid, Unavailable, new_id
from loopwright.pipeline.messages import (
    Advice,
    Answer,
    Bound,
    Built,
    Done,
    Note,
    Pruned,
    Raised,
    Report,
    Request,
    Setup,
    replies,
    to_line,
)

A = TypeVar("A", bound=Answer)
Listener = Callable[[Note], Advice | None]
_KILL_WAIT_S = 5.0
_LOG_TAIL_BYTES = 4000


class WorkerDied(Exception):
    """The process ended before it answered; `told` is what it printed last."""

    def __init__(self, exit_code: int, told: str) -> None:
        super().__init__(f"the worker process {_ending(exit_code)}")
        self.exit_code, self.told = exit_code, told


class WorkerTimeout(Exception):
    """No answer came in time; the process has been killed."""


class WorkerProcess:
    """One worker process. Ask from one thread at a time; `kill` may come from another."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._log = Path(setup.scratch) / f"worker-{new_id()}.log"
        ours = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "LOOPWRIGHT_WORKSPACE": setup.root}
        # OpenMP's threads wait for each other asleep: awake, as GNU's do, they keep a shared machine's cores from work.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **ours}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loopwright.pipeline.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._replies: queue.Queue[Answer | Note | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), name="loopwright-worker", daemon=True).start()
        self._send(setup)

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                self._replies.put(replies.decode(line))
            except msgspec.DecodeError:
                break
        self._replies.put(None)

    def _send(self, request: Request) -> None:
        pipe = self._process.stdin
        if pipe is None:
            raise RuntimeError("a worker process has no standard input")
        try:
            pipe.write(to_line(request))
            pipe.flush()
        except OSError:
            raise self._death() from None

    def ask(self, request: Request, *, listener: Listener | None = None, timeout_s: float | None = None) -> Answer:
        """Send a request and wait for its answer; notes that come before go to `listener`.

        Raises:
            WorkerDied: the process ended.
            WorkerTimeout: `timeout_s` passed.
        """
        clock = _Countdown(timeout_s)
        self._send(request)
        while True:
            try:
                reply = self._replies.get(timeout=clock.left())
            except queue.Empty:
                self.kill()
                raise WorkerTimeout(f"no answer within {timeout_s:g} s") from None
            if reply is None:
                raise self._death()
            if isinstance(reply, Bound | Built | Done | Raised | Pruned):
                return reply
            advice = listener(reply) if listener else None
            if isinstance(reply, Report):
                self._send(advice or Advice(prune=False))

    def ask_for(self, request: Request, kind: type[A]) -> A:
        """Send a request that is answered by `kind`.

        Raises:
            LoopwrightError: the worker raised one, or the user's code failed.
            Unavailable: the process ended.
        """
        try:
            answer = self.ask(request)
        except WorkerDied as death:
            raise Unavailable(f"{death}", next_step=death.told or "try again") from None
        if isinstance(answer, Raised):
            raise as_error(answer)
        if not isinstance(answer, kind):
            raise Corrupt(f"a worker answered with {type(answer).__name__} instead of {kind.__name__}")
        return answer

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and every process that it started, at once."""
        import psutil

        try:
            family = [*psutil.Process(self._process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        self._process.kill()
        for child in family:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait(_KILL_WAIT_S)

    def close(self) -> None:
        """End the process and give back its pipes."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue

    def _death(self) -> WorkerDied:
        self._process.wait(_KILL_WAIT_S)
        told = self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip() if self._log.exists() else ""
        return WorkerDied(self._process.returncode or 0, told)


class WorkerPool:
    """Up to `size` processes with one setup; the one that was used last is taken first. Thread-safe."""

    def __init__(self, setup: Setup, size: int) -> None:
        self.setup, self.size = setup, size
        self._idle: list[WorkerProcess] = []
        self._all: list[WorkerProcess] = []
        self._lock = threading.Lock()

    def take(self) -> WorkerProcess:
        """An idle process, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            worker = WorkerProcess(self.setup)
            self._all.append(worker)
            return worker

    def give_back(self, worker: WorkerProcess) -> None:
        """Let others use the process."""
        with self._lock:
            self._idle.append(worker)

    @contextmanager
    def lent(self) -> Iterator[WorkerProcess]:
        """A process for the length of a block; after an error it is used again only if it still lives."""
        worker = self.take()
        try:
            yield worker
        finally:
            if worker.lives:
                self.give_back(worker)
            else:
                self.discard(worker)

    def discard(self, worker: WorkerProcess) -> None:
        """End a process that cannot be used any more."""
        with self._lock:
            if worker in self._all:
                self._all.remove(worker)
        worker.close()

    def close(self) -> None:
        """End all processes, busy ones too."""
        with self._lock:
            workers, self._all, self._idle = self._all, [], []
        for worker in workers:
            worker.close()


def as_error(raised: Raised) -> Exception:
    """What a worker raised, as the same kind of error."""
    if raised.code in KINDS:
        return KINDS[raised.code](raised.message, where=raised.where, next_step=raised.next_step)
    return Invalid(f"{raised.kind}: {raised.message}", where=raised.where, next_step=raised.traceback.strip())


class _Countdown:
    def __init__(self, timeout_s: float | None) -> None:
        import time

        self._now = time.monotonic
        self._end = None if timeout_s is None else self._now() + timeout_s

    def left(self) -> float | None:
        """Seconds that are left; None without a limit."""
        return None if self._end is None else max(0.0, self._end - self._now())


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        hint = "; the machine may be out of memory" if exit_code == -9 else ""
        return f"was ended by signal {-exit_code}{hint}"
    return f"ended with exit code {exit_code}"
