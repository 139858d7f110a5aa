"""Workers that are processes on this machine."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import msgspec

from loopwright.core import new_id
from loopwright.pipeline.messages import Answer, Note, Request, Setup, replies, to_line
from loopwright.pipeline.workers import Worker, WorkerDied

_KILL_WAIT_S = 5.0
_LOG_TAIL_BYTES = 4000


class WorkerProcess(Worker):
    """One child process. See Worker for what may be done with it from which thread."""

    def __init__(self, setup: Setup, folder: Path | None = None) -> None:
        """Args:
        folder: the folder that it starts in; by default this process's own.
        """
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
                cwd=folder,
                start_new_session=True,
            )
        self._replies: queue.Queue[Answer | Note | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), name="loopwright-worker", daemon=True).start()
        self._write(setup)

    def wait_ready(self) -> None:
        """It takes requests from its start."""

    def send(self, request: Request) -> None:
        self._write(request)

    def receive(self, timeout_s: float | None) -> Answer | Note:
        try:
            reply = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if reply is None:
            raise self._death()
        return reply

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
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
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                self._replies.put(replies.decode(line))
            except msgspec.DecodeError:
                break
        self._replies.put(None)

    def _write(self, message: Request) -> None:
        pipe = self._process.stdin
        if pipe is None:
            raise RuntimeError("a worker process has no standard input")
        try:
            pipe.write(to_line(message))
            pipe.flush()
        except OSError:
            raise self._death() from None

    def _death(self) -> WorkerDied:
        self._process.wait(_KILL_WAIT_S)
        told = self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip() if self._log.exists() else ""
        return WorkerDied(f"the worker process {_ending(self._process.returncode or 0)}", told)


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        hint = "; the machine may be out of memory" if exit_code == -9 else ""
        return f"was ended by signal {-exit_code}{hint}"
    return f"ended with exit code {exit_code}"
