"""The inference process: everything put together, from the command line to the last answer.

`python -m loopwright.serve --state FILE --objects URL --journal DIR` prints one line of JSON when it is ready to answer
(`url`, `pid`, `revision`), follows the state document, and ends on SIGTERM, or when its parent does with
`--fd-parent-watch`: it then answers what is under way and puts the log on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loopwright.core import Conflict, Invalid, LoopwrightError
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.follower import Follower, fetch_from
from loopwright.serve.metrics import Metrics
from loopwright.serve.prediction_log import PredictionLog
from loopwright.serve.rest import App, HttpServer

DRAIN_S = 10.0
OPTIONS_VARIABLE = "LOOPWRIGHT_STORAGE_OPTIONS"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LOOPBACK_HOSTS = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})


class ProcessSettings(msgspec.Struct, frozen=True):
    """What the process is told when it starts.

    Attributes:
        state: the document to follow.
        objects: the URL or folder of the object store.
        journal: the folder of the prediction log.
        cache: where bundles are kept on this machine.
        port: 0 for any that is free.
        threads: per prediction.
        watch_parent: end when standard input is closed, or the parent is gone.
    """

    state: Path
    objects: str
    journal: Path
    cache: Path
    host: str = "127.0.0.1"
    port: int = 0
    threads: int = 1
    watch_parent: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; its exit code."""
    settings = _parse(arguments)
    try:
        _run(settings)
    except LoopwrightError as error:
        _say(str(error))
        return error.exit_code
    return 0


def _run(settings: ProcessSettings) -> None:
    if sys.platform == "win32":
        asyncio.run(serve(settings))
        return
    import uvloop

    uvloop.run(serve(settings))


async def serve(settings: ProcessSettings) -> None:
    """Serve until told to end.

    Raises:
        Conflict: the port is taken.
        Unavailable: the object store cannot be opened.
    """
    from loopwright.store import open_objects

    stop = asyncio.Event()
    _watch_signals(stop)
    if settings.watch_parent:
        _watch_parent(stop)
    log = PredictionLog(settings.journal)
    plane = DataPlane(log, Metrics())
    fetch = fetch_from(open_objects(settings.objects, _storage_options()), settings.cache)
    follower = Follower(settings.state, plane, log, fetch, _say, settings.threads)
    app = App(plane, _LOOPBACK_HOSTS if settings.host in _LOOPBACK else None)
    server = HttpServer(app)
    app.connections = lambda: server.connections
    await (
        follower.refresh()
    )  # before the first caller can connect, so that none meets an endpoint that is not there yet
    port = await _listen(server, settings)
    following = asyncio.create_task(follower.run(), name="loopwright-follower")
    gc.collect()
    gc.freeze()  # what is loaded by now stays; the collector need not walk it again
    app.ready = True
    _announce(settings.host, port, plane.metrics.revision)
    await stop.wait()
    app.ready = False
    following.cancel()
    await server.drain(DRAIN_S)
    plane.close()


async def _listen(server: HttpServer, settings: ProcessSettings) -> int:
    try:
        return await server.listen(settings.host, settings.port)
    except OSError as error:
        raise Conflict(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
            next_step="stop what uses the port, or give another with --port (0 takes any that is free)",
        ) from error


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


def _announce(host: str, port: int, revision: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    line = {"url": f"http://{shown}:{port}", "pid": os.getpid(), "revision": revision}
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


def _parse(arguments: Sequence[str] | None) -> ProcessSettings:
    parser = argparse.ArgumentParser(prog="python -m loopwright.serve", description="The inference process.")
    parser.add_argument("--state", type=Path, required=True, help="the serving state to follow")
    parser.add_argument("--objects", required=True, help="URL or folder of the object store")
    parser.add_argument("--journal", type=Path, required=True, help="folder of the prediction log")
    parser.add_argument("--cache", type=Path, help="folder for bundles; beside the state by default")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument("--threads", type=int, default=1, help="threads per prediction")
    parser.add_argument("--fd-parent-watch", action="store_true", help="end when standard input is closed")
    found = parser.parse_args(arguments)
    return ProcessSettings(
        state=found.state,
        objects=found.objects,
        journal=found.journal,
        cache=found.cache or found.state.parent / "bundles",
        host=found.host,
        port=found.port,
        threads=found.threads,
        watch_parent=found.fd_parent_watch,
    )
