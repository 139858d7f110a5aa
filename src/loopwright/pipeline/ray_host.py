"""What runs on a machine of a Ray cluster: an actor that keeps one worker process, and passes on what it says.

The step's code does not run in the actor: the worker process is the same as on this machine, so a step may print,
crash or be killed, and the actor tells how it ended. Only bytes, text and numbers travel through Ray.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from loopwright.core import FILE_NAME, LoopwrightError, Settings
from loopwright.pipeline.environment import Environment, current_environment, environment_moves, installed
from loopwright.pipeline.messages import Execute, Note, Raised, Setup, requests, to_line
from loopwright.pipeline.processes import WorkerProcess
from loopwright.pipeline.workers import WorkerDied

_MAX_LOG_BYTES = 1 << 20
_MOVES_SHOWN = 3


class Order(msgspec.Struct, frozen=True):
    """What a worker is started with.

    `here` says that the machine is the one that orders: its folders are used as they are. Elsewhere the code is fetched
    from the object store by the digest of its tree, the workspace is opened by `settings`, whose stores are URLs, and
    the environment must be `environment`, because a step's cache key names it.
    """

    setup: Setup
    folder: str
    here: bool
    code: str = ""
    settings: Settings = Settings()
    environment: Environment | None = None


class Heard(msgspec.Struct, frozen=True):
    """What a worker said: a message as a line, or how it ended; with what its step printed since."""

    line: bytes = b""
    died: str = ""
    told: str = ""
    printed: bytes = b""


class Host:
    """The actor. `receive` waits in one thread of it; the other methods return at once."""

    def __init__(self, order: bytes) -> None:
        self._order = msgspec.json.decode(order, type=Order)
        self._folder = Path(
            tempfile.mkdtemp(prefix="ray-", dir=self._order.setup.scratch if self._order.here else None)
        )
        self._log, self._printed = self._folder / "log.txt", 0
        self._worker: WorkerProcess | None = None

    def start(self) -> str:
        """Start the worker process; what stands in the way, if anything does."""
        try:
            setup = self._order.setup
            setup = msgspec.structs.replace(setup, scratch=str(self._folder)) if self._order.here else self._elsewhere()
            self._setup = setup
            self._worker = WorkerProcess(setup, Path(self._order.folder if self._order.here else setup.code_root))
        except (LoopwrightError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def send(self, line: bytes) -> None:
        """Hand a request to the worker. That it has ended is told by `receive`."""
        request = requests.decode(line)
        if isinstance(request, Execute):
            request = msgspec.structs.replace(request, log=str(self._log))
        if self._worker is not None:
            try:
                self._worker.send(request)
            except WorkerDied:
                return

    def receive(self) -> bytes:
        """Wait for what the worker says next; Heard as JSON."""
        if self._worker is None:
            return msgspec.json.encode(Heard(died="the worker process was not started"))
        try:
            reply = self._worker.receive(None)
        except WorkerDied as death:
            return msgspec.json.encode(Heard(died=str(death), told=death.told, printed=self._new_output()))
        if isinstance(reply, Raised):
            reply = self._with_callers_folders(reply)
        printed = b"" if isinstance(reply, Note) else self._new_output()
        return msgspec.json.encode(Heard(line=to_line(reply), printed=printed))

    def stop(self) -> None:
        """End the worker process and all that it started."""
        if self._worker is not None:
            self._worker.close()

    def leave(self) -> None:
        """As `stop`; and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _elsewhere(self) -> Setup:
        """The setup as it is on this machine: the code beside a workspace of its own that names the shared stores."""
        from loopwright.store import checkout, open_objects

        order, search_path = self._order, _search_path()
        _check_environment(order.environment, search_path)
        code, root = self._folder / "code", self._folder / "workspace"
        code.mkdir()
        root.mkdir()
        if order.code:
            checkout(open_objects(order.setup.objects, order.setup.objects_options), order.code, code)
        settings = root / FILE_NAME
        settings.touch(mode=0o600)
        settings.write_text(as_toml(msgspec.to_builtins(order.settings)), encoding="utf-8")
        return msgspec.structs.replace(
            order.setup, root=str(root), code_root=str(code), scratch=str(self._folder), search_path=search_path
        )

    def _with_callers_folders(self, raised: Raised) -> Raised:
        """A traceback names the files as the one who reads it knows them."""
        there, here = self._setup.code_root, self._order.setup.code_root
        return msgspec.structs.replace(
            raised, traceback=raised.traceback.replace(there, here), where=raised.where.replace(there, here)
        )

    def _new_output(self) -> bytes:
        """What the step printed since the last call; the end of it, if that is much."""
        if not self._log.exists():
            return b""
        with self._log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(self._printed, size - _MAX_LOG_BYTES))
            self._printed = size
            return file.read()


def as_toml(values: Mapping[str, object]) -> str:
    """Settings as a TOML file: text, numbers, and tables of text. A JSON string is a TOML string."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    tables = [
        f"[{key}]\n" + "\n".join(f"{json.dumps(name)} = {json.dumps(item)}" for name, item in value.items())
        for key, value in values.items()
        if isinstance(value, Mapping)
    ]
    return "\n".join([*plain, *tables]) + "\n"


def _search_path() -> tuple[str, ...]:
    """Where a fresh interpreter looks: Ray adds folders to its own processes' search path."""
    told = subprocess.run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    return tuple(json.loads(told))


def _check_environment(wanted: Environment | None, search_path: tuple[str, ...]) -> None:
    from loopwright.core import Conflict

    if wanted is None:
        return
    found = msgspec.structs.replace(current_environment(), packages=installed(search_path))
    moves = environment_moves(wanted, found)
    if moves:
        shown = "; ".join(moves[:_MOVES_SHOWN]) + (f"; and {len(moves) - _MOVES_SHOWN} more" if moves[3:] else "")
        raise Conflict(
            f"its environment is another than the run's: {shown}",
            next_step="give every machine the same Python and libraries: a step's cache key names them",
        )
