"""A worker process: `python -m loopwright.pipeline.worker`.

It imports the project's code, builds graphs and runs steps, one thing at a time, as its parent asks on standard input.
It keeps what it has imported, so the next step starts at once. It ends when its parent does. The database is not
opened here unless a step asks for the workspace.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from loopwright.core import Invalid, LoopwrightError, NotFound, digest_bytes
from loopwright.pipeline.code import Sources, code_digest, source_folders
from loopwright.pipeline.codecs import dump_value, load_value
from loopwright.pipeline.definition import Pipeline, Step
from loopwright.pipeline.importing import import_from_source
from loopwright.pipeline.messages import (
    Advice,
    Answer,
    Bind,
    Bound,
    Build,
    Built,
    Done,
    Execute,
    Note,
    Pruned,
    Raised,
    Report,
    Request,
    Setup,
    requests,
    to_line,
)
from loopwright.pipeline.model import Argument, Entries, Items, Literal, Ready
from loopwright.pipeline.step_context import StepContext, TrialPruned, enter
from loopwright.store import ObjectStore, open_objects

_ORPHANED = 3


class Channel:
    """The pipes to the parent. Reads in a thread of its own, so that the parent's end is noticed during a step."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source, self._target = source, target
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._requests: queue.Queue[Request] = queue.Queue()
        threading.Thread(target=self._read, name="loopwright-parent", daemon=True).start()

    def _read(self) -> None:
        for line in self._source:
            self._requests.put(requests.decode(line))
        os._exit(_ORPHANED)

    def next(self) -> Request:
        """The next request."""
        return self._requests.get()

    def tell(self, message: Answer | Note) -> None:
        """Send a message."""
        with self._lock:
            self._target.write(to_line(message))
            self._target.flush()

    def ask(self, report: Report) -> Advice:
        """Send a report and wait for the advice, which is the next request."""
        with self._asking:
            self.tell(report)
            answer = self.next()
        if not isinstance(answer, Advice):
            raise TypeError(f"advice was asked for, {type(answer).__name__} came")
        return answer


class Worker:
    """What a worker knows after its setup."""

    def __init__(self, setup: Setup, channel: Channel) -> None:
        self.setup, self.channel = setup, channel
        self._objects: ObjectStore | None = None
        self._set_search_path()

    def _set_search_path(self) -> None:
        root = Path(self.setup.code_root)
        folders = [str(folder) for folder in (root, root / "src") if folder.is_dir()]
        sys.path[:] = list(dict.fromkeys([*folders, *self.setup.search_path]))
        import_from_source([root])

    @property
    def objects(self) -> ObjectStore:
        """The object store."""
        if self._objects is None:
            self._objects = open_objects(self.setup.objects, self.setup.objects_options)
        return self._objects

    def answer(self, request: Request) -> Answer:
        """Do what is asked; an error of the user's code becomes a message."""
        try:
            match request:
                case Bind(name, params):
                    return Bound(msgspec.to_builtins(self._pipeline(name).bind(params)))
                case Build(name, params):
                    return Built(self._graph(name, params))
                case Execute():
                    return self._execute(request)
        except TrialPruned as pruned:
            return Pruned(pruned.step)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - handed to the parent, which raises it
            return self._raised(error)
        raise TypeError(f"a worker cannot answer {type(request).__name__}")

    def _pipeline(self, name: str) -> Pipeline[..., Any]:
        found = _find(name)
        if not isinstance(found, Pipeline):
            raise Invalid(f"{name!r} is not a pipeline", next_step="decorate the function with @pipeline")
        return found

    def _graph(self, name: str, params: Mapping[str, Any]) -> Any:
        graph = self._pipeline(name).build(params)
        steps = tuple(
            msgspec.structs.replace(call, code=code_digest(self._sources(call.function), call.function))
            for call in graph.steps
        )
        return msgspec.structs.replace(graph, steps=steps)

    def _sources(self, function: str) -> Sources:
        """The project's sources; a step from elsewhere brings the folder of its own package."""
        folders = source_folders(Path(self.setup.code_root), sys.path)
        module = function.partition(":")[0]
        file = Path(getattr(sys.modules[module], "__file__", None) or "")
        if not any(file.is_relative_to(folder) for folder in folders):
            return Sources([*folders, *_home(file, module)])
        return Sources(folders)

    def _execute(self, request: Execute) -> Done:
        folder = Path(tempfile.mkdtemp(dir=self.setup.scratch))
        started = time.perf_counter()
        try:
            with _Redirected(request.log):
                output = self._call(request, folder)
                stored = dump_value(self.objects, output, folder)
            return Done(stored, time.perf_counter() - started)
        finally:
            enter(None)
            shutil.rmtree(folder, ignore_errors=True)

    def _call(self, request: Execute, folder: Path) -> Any:
        found = _find(request.call.function)
        function = found.function if isinstance(found, Step) else found
        arguments = {name: self._value(item, folder) for name, item in request.arguments.items()}
        seed = step_seed(request.seed, request.call.name)
        _set_seeds(seed)
        work = folder / "work"
        work.mkdir()
        enter(
            StepContext(
                run_id=request.run_id,
                step=request.call.name,
                seed=seed,
                folder=work,
                scope=self.setup.scope,
                root=self.setup.root,
                open_workspace=self.setup.open_workspace,
                objects=self.objects,
                link=self.channel,
            )
        )
        return function(**arguments)

    def _value(self, argument: Argument, folder: Path) -> Any:
        match argument:
            case Literal(value):
                return value
            case Ready(stored, path):
                return load_value(self.objects, stored, folder, path)
            case Items(items):
                return [self._value(item, folder) for item in items]
            case Entries(entries):
                return {key: self._value(item, folder) for key, item in entries.items()}
        raise TypeError(f"{argument!r} is not filled in")

    def _raised(self, error: BaseException) -> Raised:
        frames = _user_frames(error)
        root = Path(self.setup.code_root)
        mine = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
        last = mine or frames
        where = f"{last[-1].filename}:{last[-1].lineno}" if last else ""
        if isinstance(error, SyntaxError):
            where = f"{error.filename}:{error.lineno}"
        shown = traceback.TracebackException.from_exception(error)
        shown.stack = traceback.StackSummary.from_list(frames)
        trace = "".join(shown.format())
        if isinstance(error, LoopwrightError):
            return Raised(type(error).__name__, error.message, trace, error.where or where, error.code, error.next_step)
        return Raised(type(error).__name__, str(error), trace, where)


class _Redirected:
    """What is printed within, by Python or by a library in C, goes to a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._kept = [os.dup(number) for number in (1, 2)]
        target = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(target, number)
        os.close(target)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in zip((1, 2), self._kept, strict=True):
            os.dup2(kept, number)
            os.close(kept)


def step_seed(seed: int, step: str) -> int:
    """The seed of one step: its own, and the same in every run with that seed."""
    return int(digest_bytes(f"{seed}/{step}".encode())[:8], 16)


def _set_seeds(seed: int) -> None:
    random.seed(seed)
    import numpy

    numpy.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _find(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise Invalid(f"{name!r} names no function", next_step="write module:function")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):
            raise
        raise NotFound(
            f"there is no module {module_name!r}", next_step="check its name; it is looked up from the project's root"
        ) from None
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise NotFound(f"module {module_name!r} has no {attribute!r}")
    return found


def _home(file: Path, module: str) -> list[Path]:
    """The folder from which a module is imported by its full name."""
    depth = len(module.split(".")) - (0 if file.name == "__init__.py" else 1)
    return [file.parents[depth]] if len(file.parents) > depth else []


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The traceback without the frames of this module and of the import system."""
    frames = list(traceback.extract_tb(error.__traceback__))
    return [frame for frame in frames if not _is_machinery(frame.filename)]


def _is_machinery(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen importlib") or file == import_module.__code__.co_filename


def main() -> None:
    """Serve the parent until it ends."""
    faulthandler.enable()
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    channel = Channel(source, target)
    setup = channel.next()
    if not isinstance(setup, Setup):
        raise TypeError(f"setup was expected, {type(setup).__name__} came")
    worker = Worker(setup, channel)
    while True:
        channel.tell(worker.answer(channel.next()))


if __name__ == "__main__":
    main()
