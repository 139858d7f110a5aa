"""Workers, wherever they are: started when needed, asked one thing at a time, killed when they must end."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from loopwright.core import KINDS, Corrupt, Invalid, Unavailable
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
)

A = TypeVar("A", bound=Answer)
Listener = Callable[[Note], Advice | None]


class WorkerDied(Exception):
    """The worker ended before it answered; the message says how, `told` is what it printed last."""

    def __init__(self, how: str, told: str = "") -> None:
        super().__init__(how)
        self.told = told


class WorkerTimeout(Exception):
    """No answer came in time; the worker has been killed."""


class Worker(ABC):
    """A process of its own that runs the project's code, here or on another machine.

    Making one returns at once. It is asked from one thread at a time; `kill` may come from another, and then what is
    asked raises WorkerDied. It ends when this process does, however that ends.
    """

    @abstractmethod
    def wait_ready(self) -> None:
        """Wait until it can be asked.

        Raises:
            LoopwrightError: it cannot be started.
            WorkerDied: it was killed meanwhile.
        """

    @abstractmethod
    def send(self, request: Request) -> None:
        """Hand over a request.

        Raises:
            WorkerDied: it has ended.
        """

    @abstractmethod
    def receive(self, timeout_s: float | None) -> Answer | Note:
        """The next message, in the order in which they were sent.

        Raises:
            WorkerDied: it has ended.
            TimeoutError: none came in time; the worker can only be killed then.
        """

    @property
    @abstractmethod
    def lives(self) -> bool:
        """Whether it has not ended yet."""

    @abstractmethod
    def kill(self) -> None:
        """End it and every process that it started, at once. Idempotent."""

    @abstractmethod
    def close(self) -> None:
        """Kill it, and give back what it held here."""

    def ask(self, request: Request, *, listener: Listener | None = None, timeout_s: float | None = None) -> Answer:
        """Send a request and wait for its answer; notes that come before go to `listener`.

        Args:
            timeout_s: how long the answer may take, counted from when the worker is ready.

        Raises:
            LoopwrightError: the worker cannot be started.
            WorkerDied: it ended.
            WorkerTimeout: `timeout_s` passed.
        """
        self.wait_ready()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        self.send(request)
        while True:
            try:
                reply = self.receive(None if end is None else max(0.0, end - time.monotonic()))
            except TimeoutError:
                self.kill()
                raise WorkerTimeout(f"no answer within {timeout_s:g} s") from None
            if isinstance(reply, Bound | Built | Done | Raised | Pruned):
                return reply
            advice = listener(reply) if listener else None
            if isinstance(reply, Report):
                self.send(advice or Advice(prune=False))

    def ask_for(self, request: Request, kind: type[A]) -> A:
        """Send a request that is answered by `kind`.

        Raises:
            LoopwrightError: the worker raised one, cannot be started, or the user's code failed.
            Unavailable: it ended.
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


class WorkerPool:
    """Up to `size` workers with one setup; the one that was used last is taken first. Thread-safe."""

    def __init__(self, setup: Setup, size: int, start: Callable[[Setup], Worker]) -> None:
        """Args:
        start: makes a worker.
        """
        self.setup, self.size, self._start = setup, size, start
        self._idle: list[Worker] = []
        self._all: list[Worker] = []
        self._lock = threading.Lock()

    def take(self) -> Worker:
        """An idle worker, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            worker = self._start(self.setup)
            self._all.append(worker)
            return worker

    def give_back(self, worker: Worker) -> None:
        """Let others use the worker."""
        with self._lock:
            self._idle.append(worker)

    @contextmanager
    def lent(self) -> Iterator[Worker]:
        """A worker for the length of a block; after an error it is used again only if it still lives."""
        worker = self.take()
        try:
            yield worker
        finally:
            if worker.lives:
                self.give_back(worker)
            else:
                self.discard(worker)

    def discard(self, worker: Worker) -> None:
        """End a worker that cannot be used any more."""
        with self._lock:
            if worker in self._all:
                self._all.remove(worker)
        worker.close()

    def close(self) -> None:
        """End all workers, busy ones too."""
        with self._lock:
            workers, self._all, self._idle = self._all, [], []
        for worker in workers:
            worker.close()


def as_error(raised: Raised) -> Exception:
    """What a worker raised, as the same kind of error."""
    if raised.code in KINDS:
        return KINDS[raised.code](raised.message, where=raised.where, next_step=raised.next_step)
    return Invalid(f"{raised.kind}: {raised.message}", where=raised.where, next_step=raised.traceback.strip())
