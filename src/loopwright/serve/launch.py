"""Start, watch and stop an inference process from another one."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from loopwright.core import Unavailable
from loopwright.serve.process import OPTIONS_VARIABLE

_START_S = 60.0
_STOP_S = 15.0


class _Ready(msgspec.Struct):
    url: str
    pid: int
    revision: int


class InferenceProcess:
    """A running inference process, which ends when this process does. Use it in a `with`, or stop it."""

    def __init__(self, process: subprocess.Popen[bytes], ready: _Ready) -> None:
        self._process = process
        self.url, self.pid = ready.url, ready.pid

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
        arguments = [sys.executable, "-m", "loopwright.serve", "--fd-parent-watch"]
        given = {"state": state, "objects": objects, "journal": journal, "cache": cache, "host": host}
        for name, value in {**given, "port": port, "threads": threads}.items():
            arguments += [f"--{name}", str(value)]
        env = dict(os.environ)
        if storage_options:
            env[OPTIONS_VARIABLE] = msgspec.json.encode(dict(storage_options)).decode()
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env)
        return cls(process, _wait_ready(process))

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def stop(self, timeout_s: float = _STOP_S) -> int:
        """Let it answer what is under way and end; after `timeout_s` it is killed. Its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
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


def _wait_ready(process: subprocess.Popen[bytes]) -> _Ready:
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stdout = process.stdout
    assert stdout is not None

    def read() -> None:
        lines.put(stdout.readline())

    threading.Thread(target=read, name="loopwright-inference-start", daemon=True).start()
    try:
        line = lines.get(timeout=_START_S)
        return msgspec.json.decode(line, type=_Ready)
    except (queue.Empty, msgspec.MsgspecError):
        process.kill()
        code = process.wait()
        raise Unavailable(
            f"the inference process did not become ready (exit code {code})",
            next_step="its messages say why; try python -m loopwright.serve by hand",
        ) from None
