"""Training jobs: the pipeline of a loop as a process of its own, which a dead controller's successor finds again.

A job writes its result to a file named by its run id. So a controller that was killed loses nothing: the next one finds
the process (by the run id among its arguments) and waits for it, or finds the result, or starts the same run again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psutil

from loopwright.core import Unavailable
from loopwright.loop.model import ParamValue

_TERMINATE_S = 10.0
_MAX_STARTS = 5
_TAIL_CHARS = 600
_ERROR = "error: "


class JobResult(msgspec.Struct, frozen=True):
    """What the last line of a job's output says: how its run ended and what it handed out."""

    run_id: str
    status: str
    outputs: dict[str, Any] = {}
    error: str = ""


class Order(Protocol):
    """What a job is of: the id of its run, which is among its arguments, too, behind `--run-id`."""

    @property
    def run_id(self) -> str: ...

    def arguments(self, root: Path) -> list[str]:
        """The command line, for the project in the folder `root`."""
        ...


class JobOrder(msgspec.Struct, frozen=True):
    """What to run: a pipeline under a run id that is minted beforehand, in a project, because of an event."""

    run_id: str
    pipeline: str
    params: dict[str, ParamValue]
    project: str
    cause: str
    actor: str

    def arguments(self, root: Path) -> list[str]:
        """The command line."""
        program = [sys.executable, "-m", "loopwright", "pipeline", "run", self.pipeline, "--run-id", self.run_id]
        for name, value in self.params.items():
            program += ["--param", f"{name}={_as_text(value)}"]
        scope = ["--actor", self.actor, "--cause", self.cause, "--project", self.project]
        return [*program, *scope, "--json", "--workspace", str(root)]


class Jobs:
    """The training jobs of one controller, by run id. Used by the controller's thread only."""

    def __init__(self, folder: Path, root: Path, on_end: Callable[[], None]) -> None:
        """Args:
        folder: where jobs write; made when needed.
        root: the project's folder, in which jobs run.
        on_end: called, from another thread, whenever a job ends.
        """
        self._folder, self._root, self._on_end = folder, root, on_end
        self._processes: dict[str, psutil.Process] = {}
        self._exit_codes: dict[str, int] = {}

    def ensure(self, order: Order) -> None:
        """Let the job run: found if a controller that is gone started it, else started.

        Raises:
            Unavailable: it cannot be started.
        """
        if self.running(order.run_id):
            return
        orphan = _find(order.run_id)
        if orphan is not None:
            self._watch(order.run_id, orphan)
        else:
            self._start(order)

    def running(self, run_id: str) -> bool:
        """Whether the job is known to run."""
        process = self._processes.get(run_id)
        if process is None:
            return False
        if _alive(process):
            return True
        del self._processes[run_id]
        return False

    def any_running(self) -> list[str]:
        """The run ids of the jobs that run."""
        return [run_id for run_id in self.watched() if self.running(run_id)]

    def watched(self) -> list[str]:
        """The run ids of the jobs that run, or ended since somebody last asked whether they do."""
        return list(self._processes)

    def result(self, run_id: str) -> JobResult | None:
        """What the job said when it ended; None if it said nothing."""
        try:
            lines = self._file(run_id, "out").read_bytes().splitlines()
        except FileNotFoundError:
            return None
        for line in reversed(lines):
            with contextlib.suppress(msgspec.MsgspecError):
                return msgspec.json.decode(line, type=JobResult)
        return None

    def complaint(self, run_id: str) -> str:
        """What the job said went wrong: its last line `error: …`, else the end of its error output."""
        try:
            text = self._file(run_id, "err").read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return ""
        told = [line for line in text.splitlines() if line.startswith(_ERROR)]
        return told[-1].removeprefix(_ERROR) if told else text[-_TAIL_CHARS:]

    def failed(self, run_id: str) -> bool:
        """Whether the job, started here, ended by itself with an error. One that was killed was not at fault."""
        return self._exit_codes.get(run_id, 0) > 0

    def exhausted(self, run_id: str) -> bool:
        """Whether it was started as often as is sensible for one that is killed again and again."""
        return self._starts(run_id).st_size >= _MAX_STARTS if self._file(run_id, "starts").exists() else False

    def age_s(self, run_id: str) -> float:
        """Seconds of the machine's time since it was last started."""
        return time.time() - self._starts(run_id).st_mtime

    def _starts(self, run_id: str) -> os.stat_result:
        return self._file(run_id, "starts").stat()

    def stop(self, run_id: str) -> None:
        """End a job: asked first, killed after ten seconds; its children too."""
        process = self._processes.pop(run_id, None) or _find(run_id)
        if process is None:
            return
        family = [process]
        with contextlib.suppress(psutil.Error):
            family += process.children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.terminate()
        _, left = psutil.wait_procs(family, timeout=_TERMINATE_S)
        for member in left:
            with contextlib.suppress(psutil.Error):
                member.kill()

    def stop_all(self) -> None:
        """End all jobs; their runs go on when a controller starts again."""
        for run_id in self.any_running():
            self.stop(run_id)

    def _start(self, order: Order) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # One byte per start, before it: a job that kills the machine is not started for ever.
            with self._file(order.run_id, "starts").open("ab") as counter:
                counter.write(b".")
            with self._file(order.run_id, "out").open("wb") as out, self._file(order.run_id, "err").open("wb") as err:
                child = subprocess.Popen(
                    order.arguments(self._root),
                    cwd=self._root,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
        except OSError as error:
            raise Unavailable(f"the job cannot be started: {error.strerror or error}") from error
        self._watch(order.run_id, psutil.Process(child.pid), child)

    def _watch(self, run_id: str, process: psutil.Process, child: subprocess.Popen[bytes] | None = None) -> None:
        self._processes[run_id] = process

        def wait() -> None:
            if child is not None:
                self._exit_codes[run_id] = child.wait()
            else:
                with contextlib.suppress(psutil.Error):
                    process.wait()
            self._on_end()

        threading.Thread(target=wait, name=f"loopwright-job-{run_id[-6:]}", daemon=True).start()

    def _file(self, run_id: str, kind: str) -> Path:
        return self._folder / f"{run_id}.{kind}"


def _as_text(value: ParamValue) -> str:
    """How a value is written so that the command line reads it as what it is: text only where it is no JSON."""
    if isinstance(value, str):
        try:
            msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return msgspec.json.encode(value).decode()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _find(run_id: str) -> psutil.Process | None:
    """The process that runs this job for a controller that is gone."""
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or ()
        if "--run-id" in arguments and run_id in arguments and _alive(process):
            return process
    return None


def model_of(result: JobResult, output: str) -> str:
    """The ref that a finished job handed out under a name: as text, or as a record with a `ref`; empty if none."""
    found: Any = result.outputs.get(output, "")
    if isinstance(found, Mapping):
        found = found.get("ref", "")
    return found if isinstance(found, str) else ""
