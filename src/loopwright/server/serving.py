"""`loopwright serve`: workers that answer for one model or endpoint, and follow what is decided of it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from loopwright.core import LoopwrightError, NotFound, Unavailable
from loopwright.serve import ServedEndpoint, ServingState, WorkerPlan, Workers, read_state, write_state

LOOK_S = 1.0
TIDY_S = 60.0
_START_S = 600.0


class ServeReady(msgspec.Struct, frozen=True):
    """What is told once every worker answers.

    Attributes:
        url: the address of all HTTP protocols.
        grpc: `host:port` of the gRPC service; empty where there is none.
        pid: of this process, which watches over the workers.
        pids: of the workers.
        name: what the model is called on the wire.
        model, version: the ref of what answers; several versions are joined by commas.
    """

    url: str
    grpc: str
    pid: int
    pids: list[int]
    name: str
    model: str
    version: str


class Served:
    """What a ref serves, in a document that workers follow.

    The newest answer is kept in a second document, so that a start while the workspace does not answer goes on with
    what was served last.
    """

    def __init__(self, look: Callable[[], ServedEndpoint], live: Path, kept: Path, say: Callable[[str], None]) -> None:
        """Args:
        look: what is to be served now; raises a LoopwrightError where that cannot be told.
        live: the document that the workers follow.
        kept: the document that outlives this process.
        say: is told, in one line, of each change and of a workspace that does not answer.
        """
        self._look, self._live, self._kept, self._say = look, live, kept, say
        self._state = ServingState(0)
        self._trouble = ""

    @property
    def endpoint(self) -> ServedEndpoint:
        """What is served."""
        return self._state.endpoints[0]

    def begin(self) -> None:
        """Look once; where the workspace does not answer, take what was served last.

        Raises:
            LoopwrightError: it cannot be told what is to be served.
        """
        try:
            self._publish(self._look())
        except Unavailable as error:
            try:
                self._state = read_state(self._kept)
            except NotFound:
                raise error from None
            self._say(f"the workspace does not answer, so what was served last is served again: {error}")
            self._trouble = str(error)
            write_state(self._live, self._state)

    def refresh(self) -> None:
        """Look again; where that cannot be told, everything stays as it is."""
        try:
            self._publish(self._look())
        except LoopwrightError as error:
            if str(error) != self._trouble:
                self._say(f"what is served stays as it is: {error}")
            self._trouble = str(error)
            return
        if self._trouble:
            self._trouble = ""
            self._say("the workspace answers again")

    def _publish(self, endpoint: ServedEndpoint) -> None:
        if self._state.endpoints == (endpoint,):
            return
        is_first = not self._state.endpoints
        self._state = ServingState(self._state.revision + 1, (endpoint,))
        write_state(self._live, self._state)
        write_state(self._kept, self._state)
        if not is_first:
            self._say(f"{endpoint.name} is now answered by {models_of(endpoint)}")


def models_of(endpoint: ServedEndpoint) -> str:
    """The refs of the versions whose answers callers see, joined by commas."""
    return ", ".join(variant.model for variant in endpoint.live)


def kept_document(folder: Path, project: str, asked: str) -> Path:
    """Where the newest answer is kept for what somebody asked to have served."""
    return folder / f"{quote(f'{project}:{asked}', safe=':@')}.json"


def serve_until_told(
    plan: WorkerPlan,
    served: Callable[[Path], Served],
    on_ready: Callable[[ServeReady], None],
    *,
    drain_s: float,
    say: Callable[[str], None],
    tidy: Callable[[], None] = lambda: None,
) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP puts new workers in the place of the old ones, one by one.

    Args:
        plan: of the workers; the document that they follow is added here.
        served: makes what keeps the document at a path up to date. While it looks for the first time, the workers
            start already.
        on_ready: is called once, when all workers can answer.
        drain_s: how long answers under way may take at the end.
        say: is told, in one line, of what a person should know.
        tidy: is called now and then, on a thread of its own.

    Raises:
        Unavailable: the port is in use, or what is to be served cannot be loaded.
        LoopwrightError: it cannot be told what is to be served.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="loopwright-serve-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        live = folder / "state.json"
        settings = msgspec.structs.replace(plan.settings, state=live, await_state=True)
        signals = stack.enter_context(_told())
        workers = Workers(msgspec.structs.replace(plan, settings=settings, start_s=_START_S), report=say)
        stack.callback(workers.stop, drain_s)
        what = served(live)
        what.begin()
        while not workers.wait_ready(LOOK_S / 4):
            if signals.end:
                return 0
        on_ready(_ready(workers, what.endpoint))
        stack.enter_context(_tidying(tidy, say))
        _look_after(workers, what, signals, say)
    return 0


class _Signals:
    """What this process was told by signals. A handler may interrupt anything, so it takes no lock."""

    def __init__(self) -> None:
        self.end = self.replace = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def note(self, number: int) -> None:
        """Remember a signal."""
        if number == getattr(signal, "SIGHUP", None):
            self.replace = True
        else:
            self.end = True
        with suppress(BlockingIOError):
            os.write(self._write, b".")

    def wait(self, seconds: float) -> None:
        """Wait for a signal, or so long."""
        if select.select([self._read], [], [], seconds)[0]:
            os.read(self._read, 4096)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)


def _look_after(workers: Workers, what: Served, signals: _Signals, say: Callable[[str], None]) -> None:
    while not signals.end:
        what.refresh()
        signals.wait(LOOK_S)
        if signals.replace:
            signals.replace = False
            threading.Thread(target=_replace, args=(workers, say), name="loopwright-replace", daemon=True).start()


def _replace(workers: Workers, say: Callable[[str], None]) -> None:
    try:
        workers.replace()
    except LoopwrightError as error:
        say(f"not all workers were replaced: {error}")
        return
    say("all workers were replaced")


@contextmanager
def _tidying(tidy: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """Within it, something is tidied every minute."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(TIDY_S):
            try:
                tidy()
            except LoopwrightError as error:
                say(f"what was logged stays in its journal for now: {error}")

    threading.Thread(target=run, name="loopwright-tidy", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def _told() -> Iterator[_Signals]:
    """Signals are noted within, and do what they did before afterwards. Outside the main thread nothing is done."""
    with closing(_Signals()) as signals:
        yield from _noting(signals)


def _noting(signals: _Signals) -> Iterator[_Signals]:
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def note(number: int, _frame: Any) -> None:
        signals.note(number)

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ready(workers: Workers, endpoint: ServedEndpoint) -> ServeReady:
    versions = ",".join(variant.version for variant in endpoint.live)
    return ServeReady(
        workers.url, workers.grpc, os.getpid(), workers.pids, endpoint.name, models_of(endpoint), versions
    )
