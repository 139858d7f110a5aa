"""Where the inference process answers: HTTP, alone or on a socket that it shares with others, and gRPC."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Conflict
from loopwright.serve.access_log import AccessLog
from loopwright.serve.arguments import ProcessSettings
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.health import worker_figures
from loopwright.serve.rest import App, HttpServer
from loopwright.serve.rest.http import Exchange
from loopwright.serve.tls import GRPC, HTTP, context_of
from loopwright.serve.workers.member import Member

if TYPE_CHECKING:
    from loopwright.serve.grpc import GrpcServer
    from loopwright.serve.tracing import Tracing


class Address(msgspec.Struct, frozen=True):
    """Where it answers: an HTTP address, and `host:port` for gRPC, empty where there is none."""

    url: str
    grpc: str = ""


class Doors:
    """Opens them together, and closes them so that what is under way is answered."""

    def __init__(self, settings: ProcessSettings, plane: DataPlane, app: App) -> None:
        self._settings, self._plane, self._app = settings, plane, app
        self._server = HttpServer(app, tls=context_of(settings.tls_cert, settings.tls_key, HTTP))
        app.connections = lambda: self._server.connections + (self._grpc.connections if self._grpc else 0)
        self._member: Member | None = None
        self._grpc: GrpcServer | None = None
        self._access_log = AccessLog(settings.access_log) if settings.access_log else None
        if self._access_log is not None:
            self._server.watch(self._access_log.note)
            plane.metrics.more.append(self._access_log.figures)
        self._tracing = _tracing_of(settings, plane, self._server)
        if settings.member is not None:
            runs = plane.metrics.version_runs
            self._member = Member(settings.member, app.own_figures, lambda: self._server.connections, runs)
            app.figures, plane.metrics.runs.of_all = self._member.figures, self._member.runs
            plane.note, self._server.when_lost = self._member.note, self._member.count
        plane.metrics.more.append(lambda: worker_figures(plane.endpoints.values()))

    async def open(self) -> Address:
        """Begin to answer.

        Raises:
            Conflict: the port is taken.
            Unavailable: that of gRPC is taken.
            Invalid: gRPC is asked for, and its library is not installed; or the certificate does not fit.
        """
        grpc_port = await self._listen_grpc()
        port = await self._listen()
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        scheme = "http" if self._server.tls is None else "https"
        return Address(f"{scheme}://{host}:{port}", "" if grpc_port is None else f"{host}:{grpc_port}")

    async def close(self, timeout_s: float) -> None:
        """Take nothing new, answer what is under way, for `timeout_s` at most."""
        if self._member is not None:
            self._member.stop_accepting()
        grpc = [self._grpc.drain(timeout_s)] if self._grpc is not None else []
        await asyncio.gather(self._server.drain(timeout_s), *grpc)
        if self._member is not None:
            await self._member.close()
        if self._access_log is not None:
            self._access_log.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    async def _listen(self) -> int:
        if self._member is not None:
            return await self._member.open(self._server.start(), self._server.tls)
        host, port = self._settings.host, self._settings.port
        try:
            return await self._server.listen(host, port)
        except OSError as error:
            raise Conflict(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                next_step="stop what uses the port, or give another with --port (0 takes any that is free)",
            ) from error

    async def _listen_grpc(self) -> int | None:
        settings, app = self._settings, self._app
        if settings.grpc_port is None:
            return None
        from loopwright.serve.grpc import GrpcServer

        shared = self._member is not None
        tls = context_of(settings.tls_cert, settings.tls_key, GRPC)
        self._grpc = GrpcServer(self._plane, lambda: app.repository, lambda: app.ready, shared=shared, tls=tls)
        if self._access_log is not None:
            self._grpc.watchers.append(self._access_log.note_call)
        if self._tracing is not None:
            self._grpc.beginnings.append(self._tracing.begin)
            self._grpc.watchers.append(self._tracing.end_call)
        return await self._grpc.listen(settings.host, settings.grpc_port)


def _tracing_of(settings: ProcessSettings, plane: DataPlane, server: HttpServer) -> Tracing | None:
    if not settings.otlp:
        return None
    from loopwright.serve.tracing import Tracing

    tracing, handle = Tracing(settings.otlp), server.handle

    def begin(exchange: Exchange) -> None:
        tracing.begin(exchange)
        handle(exchange)

    server.handle = begin
    server.watch(tracing.end)
    plane.wrap_runs(tracing.around)
    return tracing
