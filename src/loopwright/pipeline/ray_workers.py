"""Workers on Ray: each is an actor (see ray_host) that keeps a worker process on some machine of the cluster."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Conflict, Invalid, LoopwrightError, Settings, Unavailable, missing_extra
from loopwright.pipeline.capture import source_files
from loopwright.pipeline.environment import current_environment
from loopwright.pipeline.messages import Answer, Execute, Note, Request, Setup, replies, to_line
from loopwright.pipeline.ray_host import Heard, Host, Order
from loopwright.pipeline.workers import Worker, WorkerDied
from loopwright.store import ObjectStore, Stores, put_tree_entries

_START_S = 600.0
_STOP_S = 10.0
_CONNECT_S = 10.0
_POLL_S = 0.5
_THREADS = 4
_SHARED = ("db", "objects", "tables", "online")

_lock = threading.Lock()
_users = 0
_mine = False
_closed = False
_address: str | None = None
_token = secrets.token_hex(32)


class RayWorker(Worker):
    """A worker process that an actor keeps."""

    def __init__(self, ray: Any, host: Any) -> None:
        self._ray, self._host = ray, host
        self._starting = host.start.remote()
        self._ready, self._killed = False, False
        self._log = Path(os.devnull)
        self._unanswered: Any = None

    def wait_ready(self) -> None:
        end = time.monotonic() + _START_S
        while not self._ready:
            done, _ = self._ray.wait([self._starting], timeout=_POLL_S)
            if self._killed:
                raise WorkerDied("the worker was stopped before it had begun")
            if done:
                self._check_started()
                self._ready = True
            elif time.monotonic() > end:
                raise Unavailable(
                    f"the Ray cluster had no place for a worker within {_START_S:g} s",
                    next_step="each takes one CPU: ask `ray status`, or give the run fewer workers",
                )

    def _check_started(self) -> None:
        try:
            trouble = self._ray.get(self._starting)
        except self._ray.exceptions.RayError as error:
            raise Unavailable(f"Ray could not start a worker: {_first_line(error)}") from error
        if trouble:
            raise Unavailable(f"a machine of the Ray cluster could not start a worker: {trouble}")

    def send(self, request: Request) -> None:
        if isinstance(request, Execute):
            self._log = Path(request.log)
        self._get(self._host.send.remote(to_line(request)), None)

    def receive(self, timeout_s: float | None) -> Answer | Note:
        self._unanswered = self._host.receive.remote()
        heard = self._heard(self._get(self._unanswered, timeout_s))
        self._unanswered = None
        if heard.died:
            self._killed = True
            raise WorkerDied(heard.died, heard.told)
        return replies.decode(heard.line)

    @property
    def lives(self) -> bool:
        return not self._killed

    def kill(self) -> None:
        self._killed = True
        self._end(self._host.stop)

    def close(self) -> None:
        self._killed = True
        self._end(self._host.leave)
        self._keep_last_words()
        self._ray.kill(self._host)

    def _keep_last_words(self) -> None:
        """After a time-out: what the step had printed until it was killed."""
        if self._unanswered is not None:
            try:
                self._heard(self._ray.get(self._unanswered, timeout=_STOP_S))
            except self._ray.exceptions.RayError:
                return

    def _heard(self, message: bytes) -> Heard:
        heard = msgspec.json.decode(message, type=Heard)
        if heard.printed:
            with self._log.open("ab") as log:
                log.write(heard.printed)
        return heard

    def _end(self, method: Any) -> None:
        try:
            self._ray.get(method.remote(), timeout=_STOP_S)
        except self._ray.exceptions.RayError:
            return  # the actor is gone, and its worker process ends with it

    def _get(self, ref: Any, timeout_s: float | None) -> Any:
        try:
            return self._ray.get(ref, timeout=timeout_s)
        except self._ray.exceptions.GetTimeoutError:
            raise TimeoutError from None
        except self._ray.exceptions.RayError as error:
            self._killed = True
            raise WorkerDied(f"the worker's machine or its actor is gone: {_first_line(error)}") from None


@contextmanager
def ray_workers(stores: Stores, address: str | None) -> Iterator[Callable[[Setup], Worker]]:
    """What makes workers on a cluster; without an address on a Ray of this machine, which ends with the block.

    Raises:
        Invalid: Ray is not installed, or a store of the workspace is within no other machine's reach.
        Unavailable: the cluster does not answer.
        Conflict: this process uses another cluster already.
    """
    settings = stores.location.settings
    if address is not None:
        _check_shared(settings)
    with connected(address) as ray:
        actor = ray.remote(num_cpus=0 if address is None else 1, max_concurrency=_THREADS)(Host)
        spread = actor if address is None else actor.options(scheduling_strategy="SPREAD")
        order = _order_here if address is None else _Shipping(stores.objects, settings)
        yield lambda setup: RayWorker(ray, spread.remote(msgspec.json.encode(order(setup))))


def _order_here(setup: Setup) -> Order:
    return Order(setup=setup, folder=str(Path.cwd()), here=True)


class _Shipping:
    """Orders for other machines: they fetch the project's code from the object store, where it is put once."""

    def __init__(self, objects: ObjectStore, settings: Settings) -> None:
        self._objects, self._settings = objects, settings
        self._trees: dict[str, str] = {}

    def __call__(self, setup: Setup) -> Order:
        return Order(
            setup=setup,
            folder="",
            here=False,
            code=self._tree(setup.code_root),
            settings=self._settings,
            environment=current_environment(),
        )

    def _tree(self, code_root: str) -> str:
        if code_root not in self._trees:
            root = Path(code_root)
            files = {path: root / path for path in source_files(root).paths}
            self._trees[code_root] = put_tree_entries(self._objects, files) if files else ""
        return self._trees[code_root]


def _check_shared(settings: Settings) -> None:
    missing = [name for name in _SHARED if not getattr(settings, name)]
    if missing:
        raise Invalid(
            f"steps on a cluster cannot reach the embedded {', '.join(missing)} of this workspace",
            next_step="name them by URL in loopwright.toml (see docs/how-to/grow.md)",
        )


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected; sessions of one process share the connection."""
    global _users, _mine, _address
    ray = _import_ray(address)
    with _lock:
        if not _users:
            _mine = not ray.is_initialized()
            if _mine:
                _connect(ray, address)
            _address = address
        elif address != _address:
            raise Conflict(f"this process runs steps on Ray at {_address or 'this machine'} already")
        _users += 1
    try:
        yield ray
    finally:
        with _lock:
            _users -= 1
            if not _users and _mine:
                ray.shutdown()


def _import_ray(address: str | None) -> Any:
    """The module, imported so that a Ray of this machine is closed to others: Ray listens on every interface and runs
    what it is sent, and decides when it is imported whether it asks for a token."""
    global _closed
    if address is None and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        with _environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=_token):
            ray = _imported()
        _closed = True
        return ray
    return _imported()


def _imported() -> Any:
    """Ray puts libraries of its own before the environment's on the search path; ours come first."""
    before = list(sys.path)
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise missing_extra("ray", "ray", "running steps on Ray") from None
    finally:
        sys.path[:] = before
    return ray


def _connect(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None and address != "auto":
        _check_listens(address)
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            with _environment(**_closing(), RAY_USAGE_STATS_ENABLED="0"):
                ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    except LoopwrightError:
        raise
    except Exception as error:  # Ray raises whatever its parts raise; the cause is named
        where = "on this machine" if address is None else f"at {address}"
        raise Unavailable(f"Ray {where} does not answer: {_first_line(error)}") from error


def _check_listens(address: str) -> None:
    """Ray itself waits for minutes for a machine that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise Unavailable(
            f"Ray at {address} does not answer: {error}", next_step="start it, or change `compute` in loopwright.toml"
        ) from None


def _closing() -> dict[str, str]:
    """What makes Ray ask for a token; nothing where the user has decided."""
    if "RAY_AUTH_MODE" in os.environ:
        return {}
    if not _closed:
        raise Conflict(
            "this process has imported ray already, and a Ray that it starts now would be open to everybody",
            next_step="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN before, or call ray.init() yourself",
        )
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token}


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
