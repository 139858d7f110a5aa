"""The inference process: everything put together, from the command line to the last answer.

`python -m loopwright.serve --state FILE --objects URL --journal DIR` prints one line of JSON when it is ready to answer
(`url`, `grpc`, `pid`, `revision`), follows the state document, and ends on SIGTERM, or when its parent does with
`--fd-parent-watch`: it then answers what is under way and puts the log on the disk.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Invalid, LoopwrightError, Unavailable
from loopwright.models import Bundle, bundle_in, trust_of
from loopwright.serve.arguments import OPTIONS_VARIABLE, ProcessSettings, from_arguments
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.doors import Address, Doors
from loopwright.serve.feature_reads import FeatureReads
from loopwright.serve.feedback import FeedbackIntake
from loopwright.serve.follower import Follower, fetch_from
from loopwright.serve.metrics import Metrics
from loopwright.serve.outs import Outs
from loopwright.serve.prediction_log import NoPredictionLog, PredictionLog
from loopwright.serve.residency import Residents
from loopwright.serve.rest import App, contract_from
from loopwright.serve.workers.running import OUTS

if TYPE_CHECKING:
    from loopwright.store import OnlineStore

DRAIN_S = 10.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LOOPBACK_HOSTS = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_LOOK_S = 0.01
_DESCRIPTORS = 65_536


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; its exit code."""
    settings = from_arguments(arguments)
    try:
        _run(settings)
    except LoopwrightError as error:
        _say(str(error))
        return error.exit_code
    return 0


def _allow_connections() -> None:
    """Each connection takes a descriptor; the usual soft limit of 1,024 is meant for programs that use select."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _run(settings: ProcessSettings) -> None:
    _allow_connections()
    if sys.platform == "win32":
        asyncio.run(serve(settings))
        return
    import uvloop

    uvloop.run(serve(settings))


async def serve(settings: ProcessSettings) -> None:
    """Serve until told to end.

    Raises:
        Conflict: the port is taken.
        Unavailable: the object store cannot be opened, or what was to be loaded before anything else cannot be.
    """
    stop = asyncio.Event()
    _watch_signals(stop)
    if settings.watch_parent:
        _watch_parent(stop)
    journal = settings.journal
    log = NoPredictionLog() if journal is None else PredictionLog.from_environment(journal, os.environ)
    plane = DataPlane(log, Metrics())
    fetch = _fetch(settings)
    residents = _residents(settings, plane, log, fetch)
    follower = Follower(settings.state, plane, residents, _say)
    hosts = _LOOPBACK_HOSTS if settings.host in _LOOPBACK else None
    reads = FeatureReads(_online(settings.online))
    plane.metrics.more.append(reads.figures)
    feedback = None if settings.feedback is None else FeedbackIntake(settings.feedback)
    if feedback is not None:
        plane.metrics.more.append(feedback.figures)
    app = App(plane, hosts, contract_from(os.environ), fetch, reads, feedback)
    app.repository = residents
    # Before the first caller can connect, so that none meets an endpoint that is not there yet.
    await (_first_state(follower, plane, residents, stop) if settings.await_state else follower.refresh())
    doors = Doors(settings, plane, app)
    address = await doors.open()
    following = asyncio.create_task(follower.run(), name="loopwright-follower")
    gc.collect()
    gc.freeze()  # what is loaded by now stays; the collector need not walk it again
    gc.set_threshold(50_000, 20, 50)  # answered requests leave nothing for it
    app.ready = True
    _announce(address, plane.metrics.revision)
    await stop.wait()
    app.ready = False
    following.cancel()
    await doors.close(DRAIN_S)
    plane.close()
    reads.close()
    if feedback is not None:
        await feedback.close()


async def _first_state(follower: Follower, plane: DataPlane, residents: Residents, stop: asyncio.Event) -> None:
    """Wait for a state, and for all that it names.

    Raises:
        Unavailable: something in it cannot be loaded, or nothing of it fits into the memory that models may take.
    """
    while not stop.is_set():
        await follower.refresh()
        if plane.metrics.load_failures:
            raise Unavailable("what is to be served cannot be loaded", next_step="the line above says why")
        if plane.metrics.revision:
            if not plane.endpoints:
                await asyncio.gather(*(residents.load(name) for name in {item.name for item in residents.index()}))
            return
        await asyncio.sleep(_LOOK_S)


def _residents(
    settings: ProcessSettings, plane: DataPlane, log: PredictionLog, fetch: Callable[[str], Bundle]
) -> Residents:
    outs = None if settings.member is None else Outs(settings.member.folder / OUTS)
    return Residents(plane, log, fetch, threads=settings.threads, budget_bytes=settings.memory_bytes, outs=outs)


def _fetch(settings: ProcessSettings) -> Callable[[str], Bundle]:
    """How bundles come to this machine."""
    trust = trust_of(settings.require_signed, map(str, settings.trusted_keys), Path())
    if settings.bundle is not None:
        held = bundle_in(settings.bundle, trust)
        return lambda _digest: held
    from loopwright.store import open_objects

    objects = open_objects(settings.objects, _storage_options())
    return fetch_from(objects, settings.bundles, settings.state, trust)


def _online(place: str) -> Callable[[], OnlineStore] | None:
    """How the online store is opened: when features are first looked up, since most processes never do that."""
    if not place:
        return None

    def opened() -> OnlineStore:
        from loopwright.store import open_online

        return open_online(place)

    return opened


def _watch_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


def _watch_parent(stop: asyncio.Event) -> None:
    """End when standard input is closed, which the system does when the parent dies, whatever the cause."""
    loop, parent = asyncio.get_running_loop(), os.getppid()

    def wait_for_end() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, name="loopwright-parent-watch", daemon=True).start()

    def check() -> None:  # a grandchild may hold the other end of standard input open
        if os.getppid() != parent:
            stop.set()
        else:
            loop.call_later(0.5, check)

    loop.call_later(0.5, check)


def _announce(address: Address, revision: int) -> None:
    line = {"url": address.url, "grpc": address.grpc, "pid": os.getpid(), "revision": revision}
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _say(line: str) -> None:
    sys.stderr.write(f"loopwright-serve: {line}\n")
    sys.stderr.flush()


def _storage_options() -> dict[str, str]:
    """Options of the object store, secrets among them: from the environment, which other users cannot read."""
    text = os.environ.get(OPTIONS_VARIABLE, "")
    try:
        return msgspec.json.decode(text, type=dict[str, str]) if text else {}
    except msgspec.MsgspecError as error:
        raise Invalid(f"{OPTIONS_VARIABLE} is no JSON object of strings: {error}") from None
