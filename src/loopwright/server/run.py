"""`loopwright up`: the control app, the inference process and the background workers, started and stopped together."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from loopwright.server.inference import InferenceKeeper, Running
from loopwright.server.settings import ServerSettings, hosts_of, is_loopback

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from loopwright.server.route import RouteSpec
    from loopwright.server.services import ServiceMap
    from loopwright.workspace import Workspace

log = logging.getLogger("loopwright.server")

_INFERENCE_WAIT_S = 20.0
_GRACE_S = 3


class Worker(Protocol):
    """Something that works in the background. `stop` returns when it has ended, within seconds."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class InferenceOptions(msgspec.Struct, frozen=True):
    """How predictions are answered, where it is not as the settings say.

    Attributes:
        workers: how many processes; 0 for what the settings say.
        memory: what models may take in each, such as `2G`; empty for what the settings say.
        grpc_port: where they answer gRPC, on this machine only; none for nowhere.
    """

    workers: int = 0
    memory: str = ""
    grpc_port: int | None = None


class Ready(msgspec.Struct, frozen=True):
    """What is told once everything answers. `first_token` is the one-time admin token of a first start, else empty."""

    url: str
    workspace: str
    pid: int
    first_token: str = ""
    inference: bool = True


def serve_up(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = 8000,
    on_ready: Callable[[Ready], None] = lambda ready: None,
    *,
    workers: Sequence[Worker] = (),
    extra_routes: Sequence[RouteSpec] = (),
    allow_hosts: Sequence[str] = (),
    inference: InferenceOptions | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve a workspace until SIGTERM, SIGINT or `stop`; then end everything within a few seconds.

    Args:
        workspace: the open workspace; it stays open.
        host: the address to bind. Any but a loopback address demands tokens.
        port: 0 for any free one.
        on_ready: called once, when the API answers and the inference process does (or did not come up in 20 s).
        workers: what runs beside: the controller. The sealer of events and the sender of webhooks are started here.
        extra_routes: the pages.
        inference: how predictions are answered; by default as the settings say.
        allow_hosts: further exact Host values, such as `models.example.org`.
        stop: ends the server when it is set, where signals cannot.

    Raises:
        Unavailable: the port is in use, or a store does not answer.
        Invalid: the host is no address of this machine, or a route is malformed.
    """
    from loopwright.serve import listen
    from loopwright.server.protocols.mlflow import mlflow_routes
    from loopwright.track import MetricIntake

    listener = listen(host, port)
    bound_port: int = listener.getsockname()[1]
    with ExitStack() as stack:
        stack.callback(listener.close)
        settings = settings_for(workspace, host, bound_port, tuple(allow_hosts))
        keeper = inference_of(workspace, inference or InferenceOptions())
        intake = MetricIntake(workspace.stores, patience_s=0)
        stack.callback(intake.close)
        app, first_token = _app(workspace, settings, keeper, [*mlflow_routes(intake), *extra_routes])
        keeper.start()
        stack.callback(keeper.stop)
        for worker in (_sealer(workspace), _webhook_sender(workspace), *workers):
            worker.start()
            stack.callback(worker.stop)
        ready = Ready(_url(host, bound_port), str(workspace.location.root), os.getpid(), first_token)
        _serve(app, listener, keeper, lambda up: on_ready(msgspec.structs.replace(ready, inference=up)), stop)


def settings_for(workspace: Workspace, host: str, port: int, allow_hosts: tuple[str, ...] = ()) -> ServerSettings:
    """The control app's settings for a bind; a bind to another than a loopback address demands tokens."""
    location = workspace.location
    folders = {str(location.data), str(location.root), str(Path.home())}
    return ServerSettings(
        hosts=hosts_of(host, port, tuple(name.lower() for name in allow_hosts)),
        auth=location.settings.auth,
        loopback=is_loopback(host),
        default_project=location.settings.project,
        concealed=tuple(sorted(folders, key=len, reverse=True)),
    )


def services_of(workspace: Workspace) -> ServiceMap:
    """The services of a workspace, as the control app takes them: one per request's scope."""
    from loopwright.workspace import SERVICES, service_type

    def factory(room: str) -> Callable[[Any], Any]:
        return lambda scope: workspace.scoped(scope).service(room)

    return {room: (service_type(room), factory(room)) for room in SERVICES}


def inference_of(workspace: Workspace, options: InferenceOptions) -> InferenceKeeper:
    """The keeper of a workspace's inference processes, not yet started."""
    from loopwright.serve import ProcessSettings, WorkerPlan, Workers, bytes_of
    from loopwright.store import online_place_of

    data, settings = workspace.location.data, workspace.location.settings
    told = ProcessSettings(
        state=data / "serving" / "state.json",
        objects=settings.objects or str(data / "objects"),
        journal=data / "journal" / "predictions",
        cache=data / "cache" / "bundles",
        memory_bytes=bytes_of(options.memory or settings.serving_memory),
        grpc_port=options.grpc_port,
        access_log=settings.access_log,
        otlp=settings.otlp,
        online=online_place_of(workspace.location),
        feedback=data / "journal" / "feedback",
        trusted_keys=tuple(workspace.location.root / name for name in settings.trusted_keys),
        require_signed=settings.require_signed,
    )
    plan = WorkerPlan(told, options.workers or settings.workers, settings.storage_options)

    def launch() -> Running:
        workers = Workers(plan, log.warning)
        try:
            workers.wait_ready()
        except BaseException:
            workers.stop()
            raise
        return workers

    return InferenceKeeper(launch)


def _app(
    workspace: Workspace, settings: ServerSettings, inference: InferenceKeeper, extra: Sequence[RouteSpec]
) -> tuple[Starlette, str]:
    """The app, and the one-time token if tokens are demanded and nobody has one that administers."""
    from loopwright.govern import Authenticator
    from loopwright.server.app import create_app
    from loopwright.server.protocols.mlflow import REALMS

    gate = Authenticator(workspace.stores)
    app = create_app(services_of(workspace), gate, settings, inference.url, extra, REALMS)
    made = None if settings.local_mode else gate.first_token()
    return app, made.secret if made else ""


def _sealer(workspace: Workspace) -> Worker:
    from loopwright.store import Sealer

    return Sealer(workspace.stores.events)


def _webhook_sender(workspace: Workspace) -> Worker:
    from loopwright.govern import WebhookSender
    from loopwright.workspace import WEBHOOK_FORMATS

    return WebhookSender(workspace.stores, WEBHOOK_FORMATS)


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  a look-up, not a bind
    return f"http://[{name}]:{port}" if ":" in name and not name.startswith("[") else f"http://{name}:{port}"


def _serve(
    app: Starlette,
    listener: socket.socket,
    inference: InferenceKeeper,
    on_ready: Callable[[bool], None],
    stop: threading.Event | None,
) -> None:
    import uvicorn

    from loopwright.server.connection import ControlProtocol

    config = uvicorn.Config(
        app,
        http=ControlProtocol,
        log_config=None,
        access_log=False,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_S,
        ws="none",
    )
    server = _control_server(config, app)
    waiter = threading.Thread(
        target=_announce, args=(server, inference, on_ready, stop), name="loopwright-ready", daemon=True
    )
    waiter.start()
    with _signals(server):
        server.run(sockets=[listener])
    waiter.join(1.0)


def _control_server(config: uvicorn.Config, app: Starlette) -> uvicorn.Server:
    """Uvicorn's server, which first ends the live streams (else it would wait for them) and leaves signals to us."""
    import uvicorn

    class ControlServer(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if app.state.feed is not None:
                await app.state.feed.close()
            await super().shutdown(sockets)

    return ControlServer(config)


@contextmanager
def _signals(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT end the server; a second one ends it at once. Outside the main thread nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: Any) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(
    server: uvicorn.Server,
    inference: InferenceKeeper,
    on_ready: Callable[[bool], None],
    stop: threading.Event | None,
) -> None:
    """Tell when everything answers, then wait for `stop`."""
    pause = threading.Event()
    while not server.started and not server.should_exit:
        pause.wait(0.02)
    answers = False
    for _ in range(int(_INFERENCE_WAIT_S / 0.1)):
        answers = inference.wait_ready(0.1)
        if answers or server.should_exit:
            break
    if not server.should_exit:
        on_ready(answers)
    while stop is not None and not server.should_exit:
        if stop.wait(0.1):
            server.should_exit = True
