"""Keeps the inference process running beside the control app."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

log = logging.getLogger("loopwright.server")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
_HEALTHY_AFTER_S = 60.0
_READY_WITHIN_S = 60.0


class ReadyLine(msgspec.Struct, frozen=True):
    """The line that the inference process prints once it can answer."""

    url: str


class InferenceProcess:
    """Starts the process, starts it again when it dies (after a pause that doubles up to 15 s), and ends it.

    The process ends by itself when its standard input closes, so it never outlives a killed control app.
    """

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path | None = None, on_start: Callable[[], None] | None = None
    ):
        """Args:
        arguments: the command line.
        cwd: where it runs.
        on_start: called each time that it can answer.
        """
        self._arguments, self._cwd, self._on_start = list(arguments), cwd, on_start
        self._stopping, self._ready = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._url: str | None = None
        self._thread = threading.Thread(target=self._keep_running, name="loopwright-inference", daemon=True)
        self.starts = 0

    def url(self) -> str | None:
        """Where it answers; None while it does not run."""
        return self._url

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Begin; `wait_ready` says when it answers."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait for the first answerable moment; False if it did not come in time."""
        return self._ready.wait(timeout_s)

    def stop(self, grace_s: float = 5.0) -> None:
        """End the process: politely, then not."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            _end(process, grace_s)
        self._thread.join(grace_s + 1.0)

    def _keep_running(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._run_once()
            self._url = None
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _HEALTHY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            log.warning("the inference process ended with %s; it starts again in %g s", code, pause_s)
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _run_once(self) -> int | str:
        try:
            with self._lock:
                if self._stopping.is_set():
                    return 0
                process = subprocess.Popen(
                    self._arguments, cwd=self._cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
                self._process, self.starts = process, self.starts + 1
        except OSError as error:
            return f"{error.strerror}: {self._arguments[0]}"
        assert process.stdout is not None
        watchdog = threading.Timer(_READY_WITHIN_S, self._end_if_silent, [process])
        watchdog.daemon = True
        watchdog.start()
        try:
            self._follow(process.stdout)
            return process.wait()
        finally:
            watchdog.cancel()
            _close(process)

    def _follow(self, output: IO[bytes]) -> None:
        for line in output:
            try:
                told = msgspec.json.decode(line, type=ReadyLine)
            except msgspec.DecodeError:
                log.info("inference: %s", line.decode("utf-8", "replace").rstrip())
                continue
            self._url = told.url
            self._ready.set()
            if self._on_start is not None:
                self._on_start()

    def _end_if_silent(self, process: subprocess.Popen[Any]) -> None:
        if self._url is None and process.poll() is None:
            log.warning("the inference process said nothing for %g s and is ended", _READY_WITHIN_S)
            process.kill()


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def command_line(state: Path, objects: str, journal: Path) -> list[str]:
    """The command line of the inference process for a workspace's serving state, objects and prediction log."""
    return [
        sys.executable,
        "-m",
        "loopwright.serve",
        "--state",
        str(state),
        "--objects",
        objects,
        "--journal",
        str(journal),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
