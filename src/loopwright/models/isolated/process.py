"""One worker process, seen from the server: started with a clean environment, asked with a time limit, killed whole."""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from loopwright.models.isolated.wire import BadFrame, Frame, receive, send

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_LAST_LINES = 40
_CPU_SLACK_S = 5
_LOOK_EVERY_S = 5.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker may use.

    Attributes:
        memory_bytes: of its own memory, libraries included.
        call_timeout_s: for one call; past it the process is killed.
        load_timeout_s: from its start until the model is loaded.
        scratch_bytes: in the files that it writes; each, and (looked at now and then) all together.
        answer_bytes: in the outputs of one call.
        open_files: at a time.
    """

    memory_bytes: int = 2 << 30
    call_timeout_s: float = 10.0
    load_timeout_s: float = 120.0
    scratch_bytes: int = 64 << 20
    answer_bytes: int = 256 << 20
    open_files: int = 256


class Job(msgspec.Struct, frozen=True):
    """What a worker loads: a bundle's folder, and which of its parts is run how (see `Code`)."""

    runner: str
    entry: str
    folder: str
    threads: int = 1


class Refused(Exception):
    """The model's code raised an error on these rows; the worker goes on."""


class Died(Exception):
    """The worker is gone: it crashed, took too long or too much, or spoke nonsense."""


class WorkerProcess:
    """A running worker. One call at a time; it is of no use after `Died`."""

    def __init__(self, job: Job, limits: Limits) -> None:
        """Start a process and load the model in it.

        Raises:
            Died: it did not load the model, in time or at all.
        """
        self._limits, self._number, self._look_again_at = limits, 0, 0.0
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        if os.name != "posix":
            raise Died("a model in Python runs on Linux and macOS only")
        scratch = tempfile.mkdtemp(prefix="loopwright-scratch-")
        self._scratch = Path(scratch)
        ours, theirs = socket.socketpair()
        life_read, life_write = os.pipe()
        try:
            self._process = _start(theirs.fileno(), life_read, scratch, job.threads)
        finally:
            theirs.close()
            os.close(life_read)
        self._channel = ours
        self._stop = weakref.finalize(self, _end, self._process, ours, life_write, scratch)
        assert self._process.stderr is not None
        drain = threading.Thread(
            target=_drain, args=(self._process.stderr, self.last_lines), name="loopwright-worker-stderr", daemon=True
        )
        drain.start()
        self.confinement = self._load(job, scratch)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs for rows given by column.

        Raises:
            Refused: the model raised an error.
            Died: the process is gone, and was killed if it was not.
        """
        deadline = time.monotonic() + self._limits.call_timeout_s
        self._allow_cpu(self._limits.call_timeout_s)
        frame, arrays = self._ask(Frame("predict"), columns, deadline, "a call")
        if frame.kind == "answer":
            self._watch_scratch()
            return arrays
        text = str(frame.words.get("error", "it failed"))[:400]
        if frame.words.get("ends"):
            self.kill()
            raise Died(f"it ran out of its {self._limits.memory_bytes >> 20} MiB of memory ({text})")
        raise Refused(text)

    def kill(self) -> None:
        """End the process and all of its group, and remove its scratch folder. Idempotent."""
        self._stop()

    def _load(self, job: Job, scratch: str) -> tuple[str, ...]:
        deadline = time.monotonic() + self._limits.load_timeout_s
        self._allow_cpu(self._limits.load_timeout_s)
        words: dict[str, Any] = {
            "runner": job.runner,
            "entry": job.entry,
            "folder": job.folder,
            "scratch": scratch,
            "memory_bytes": self._limits.memory_bytes,
            "file_bytes": self._limits.scratch_bytes,
            "open_files": self._limits.open_files,
            "question_bytes": self._limits.answer_bytes,
        }
        frame, _ = self._ask(Frame("load", words=words), {}, deadline, "loading")
        if frame.kind != "ready":
            self.kill()
            raise Died(f"it cannot be loaded: {str(frame.words.get('error', 'it failed'))[:400]}")
        return tuple(str(item)[:60] for item in frame.words.get("confinement", ()))

    def _ask(
        self, frame: Frame, arrays: Mapping[str, Array], deadline: float, what: str
    ) -> tuple[Frame, dict[str, Array]]:
        self._number += 1
        try:
            send(self._channel, msgspec.structs.replace(frame, number=self._number), arrays, deadline)
            answer, given = receive(self._channel, self._limits.answer_bytes, deadline)
        except TimeoutError:
            self.kill()
            limit = self._limits.load_timeout_s if frame.kind == "load" else self._limits.call_timeout_s
            raise Died(f"{what} took longer than {limit:g} s") from None
        except (EOFError, OSError):
            raise Died(self._ending()) from None
        except BadFrame as error:
            self.kill()
            raise Died(f"its answer is refused: {error}") from None
        if answer.number != self._number:
            self.kill()
            raise Died("it answered another question than the one asked")
        return answer, given

    def _ending(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            code = 0
        self.kill()
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"

    def _allow_cpu(self, seconds: float) -> None:
        """From now on it may use so much processor time until the next call: none is left for what goes on between."""
        import resource  # absent on Windows, where no worker runs

        if not hasattr(resource, "prlimit"):
            return
        used = _cpu_s(self.pid)
        ceiling = int(used + seconds * (os.cpu_count() or 1)) + _CPU_SLACK_S
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (ceiling, resource.RLIM_INFINITY))

    def _watch_scratch(self) -> None:
        now = time.monotonic()
        if now < self._look_again_at:
            return
        self._look_again_at = now + _LOOK_EVERY_S
        with contextlib.suppress(OSError):
            size = sum(path.lstat().st_size for path in self._scratch.rglob("*"))
            if size > self._limits.scratch_bytes:
                self.kill()
                raise Died(f"it wrote {size} bytes to its scratch folder; {self._limits.scratch_bytes} are allowed")


def _start(channel: int, life: int, scratch: str, threads: int) -> subprocess.Popen[bytes]:
    environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environ |= {"PATH": "/usr/bin:/bin", "HOME": scratch, "TMPDIR": scratch, "PYTHONDONTWRITEBYTECODE": "1"}
    environ |= {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "loopwright.models.isolated.worker", str(channel), str(life)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environ,
        cwd=scratch,
        pass_fds=(channel, life),
        start_new_session=True,
    )


def _drain(stream: IO[bytes], lines: collections.deque[str]) -> None:
    """Keep the last lines of what a worker says; the rest is dropped, so that it never blocks."""
    with contextlib.suppress(ValueError, OSError), stream:
        while data := stream.readline(4096):
            lines.append(data.decode("utf-8", "replace").rstrip())


def _end(process: subprocess.Popen[bytes], channel: socket.socket, life: int, scratch: str) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    channel.close()
    os.close(life)
    shutil.rmtree(scratch, ignore_errors=True)


def _cpu_s(pid: int) -> float:
    """The processor time that a process has used; 0.0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0
