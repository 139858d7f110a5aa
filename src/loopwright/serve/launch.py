"""Start, watch and stop an inference process from another one."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from loopwright.core import Unavailable
from loopwright.serve.arguments import ONLINE_VARIABLE, OPTIONS_VARIABLE, ProcessSettings, to_arguments

START_S = 60.0
_STOP_S = 15.0
_LOOK_S = 0.05


class _Ready(msgspec.Struct):
    url: str
    pid: int
    revision: int
    grpc: str = ""


class InferenceProcess:
    """A running inference process, which ends when this process does. Use it in a `with`, or stop it."""

    def __init__(self, process: subprocess.Popen[bytes], ready: _Ready) -> None:
        self._process = process
        self.url, self.grpc, self.revision = ready.url, ready.grpc, ready.revision
        self._pid = ready.pid
        self._is_told = False

    @classmethod
    def start(
        cls,
        *,
        state: Path,
        objects: str,
        journal: Path,
        cache: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 1,
        storage_options: Mapping[str, str] | None = None,
        stderr: IO[bytes] | int | None = None,
    ) -> InferenceProcess:
        """Start one and wait until it is ready to answer.

        Args:
            state: the document that it follows; it need not exist yet.
            objects: URL or folder of the object store.
            journal: folder of the prediction log.
            cache: folder for bundles.
            port: 0 for any that is free.
            threads: per prediction.
            storage_options: for the object store; handed over in the environment.
            stderr: where its messages go; by default with ours.

        Raises:
            Unavailable: it ended, or was not ready in time.
        """
        settings = ProcessSettings(
            state=state, objects=objects, journal=journal, cache=cache, host=host, port=port, threads=threads
        )
        return cls.launch(settings, storage_options=storage_options, stderr=stderr)

    @classmethod
    def launch(
        cls,
        settings: ProcessSettings,
        *,
        storage_options: Mapping[str, str] | None = None,
        stderr: IO[bytes] | int | None = None,
        start_s: float = START_S,
        given_up: Callable[[], bool] = lambda: False,
    ) -> InferenceProcess:
        """Start one with settings and wait until it is ready to answer.

        Args:
            start_s: how long that may take.
            given_up: is asked now and then; True ends the process and the wait.

        Raises:
            Unavailable: it ended, or was not ready in time.
        """
        watched = msgspec.structs.replace(settings, watch_parent=True)
        env = dict(os.environ)
        if storage_options:
            env[OPTIONS_VARIABLE] = msgspec.json.encode(dict(storage_options)).decode()
        env.pop(ONLINE_VARIABLE, None)
        if settings.online:
            env[ONLINE_VARIABLE] = settings.online
        member = settings.member
        process = subprocess.Popen(
            [sys.executable, "-m", "loopwright.serve", *to_arguments(watched)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=env,
            # A Ctrl-C at the terminal is for us alone: we end it when what it has under way is answered.
            process_group=None if sys.platform == "win32" else 0,
            pass_fds=(member.listener,) if member is not None and member.listener >= 0 else (),
        )
        return cls(process, _wait_ready(process, start_s, given_up))

    @property
    def pid(self) -> int:
        """Its id."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """Ask it to answer what is under way and end; `stop` waits for it."""
        if self._process.poll() is None and not self._is_told:
            self._is_told = True  # a second signal would meet a process that no longer catches it
            self._process.terminate()

    def stop(self, timeout_s: float = _STOP_S) -> int:
        """Let it answer what is under way and end; after `timeout_s` it is killed. Its exit code."""
        self.end()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        code = self._process.wait()
        _close(self._process)
        return code

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> InferenceProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _wait_ready(process: subprocess.Popen[bytes], start_s: float, given_up: Callable[[], bool]) -> _Ready:
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stdout = process.stdout
    assert stdout is not None

    def read() -> None:
        lines.put(stdout.readline())

    threading.Thread(target=read, name="loopwright-inference-start", daemon=True).start()
    end = time.monotonic() + start_s
    try:
        while True:
            try:
                return msgspec.json.decode(lines.get(timeout=_LOOK_S), type=_Ready)
            except queue.Empty:
                if time.monotonic() > end or given_up():
                    raise
    except (queue.Empty, msgspec.MsgspecError):
        process.kill()
        code = process.wait()
        _close(process)
        raise Unavailable(
            f"the inference process did not become ready (exit code {code})",
            next_step="its messages say why; try python -m loopwright.serve by hand",
        ) from None
