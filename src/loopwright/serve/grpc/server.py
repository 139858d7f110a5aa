"""The server: every service over gRPC on one port, on the event loop of the data plane."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from loopwright.core import Invalid, Unavailable, missing_extra
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.repository import Repository
from loopwright.serve.tls import handshake_s
from loopwright.serve.watching import Begun, WatchedCall

try:
    import hpack  # noqa: F401  (heads of calls need it)
    from google.protobuf import message_factory  # noqa: F401  (our messages need it)
except ImportError:
    raise missing_extra("hpack", "grpc", "serving over gRPC") from None

from loopwright.serve.codes import Code
from loopwright.serve.grpc.call import Call
from loopwright.serve.grpc.calls import Converse, Unary, awaited, handle, refuse, simple
from loopwright.serve.grpc.connection import Connection
from loopwright.serve.grpc.inference import SERVICE, Inference
from loopwright.serve.grpc.protos import messages
from loopwright.serve.grpc.serving import MODELS, PREDICTION, Serving

_LOOK_S, _SWEEP_S = 0.01, 0.5
_ENDS_OF_TYPE = (b"", b"+", b";")


class GrpcLimits(msgspec.Struct, frozen=True):
    """What bounds a connection, and all of them together: sizes in bytes, times in seconds.

    Attributes:
        streams: calls of one connection that are under way at once.
        stream_window, window: what a caller may send ahead, in one call and in all of a connection.
        unsent_bytes: answers of one connection that its caller does not take.
        unfinished_bytes: of messages that have not arrived whole, over all connections.
    """

    message_bytes: int = 64 << 20
    frame_bytes: int = 64 << 10
    streams: int = 1024
    stream_window: int = 1 << 20
    window: int = 8 << 20
    unsent_bytes: int = 128 << 20
    unfinished_bytes: int = 256 << 20
    request_s: float = 30.0
    connections: int = 10_000


class Method(NamedTuple):
    """What answers a method: a call with one message, or a conversation."""

    unary: Unary | None
    converse: Converse | None = None


class GrpcServer:
    """Answers gRPC. Lives on one event loop.

    Attributes:
        watchers: are told of each message that was answered: its code, and the size of the answer.
        beginnings: are told of each message that has come.
    """

    def __init__(
        self,
        plane: DataPlane,
        repository: Callable[[], Repository],
        ready: Callable[[], bool],
        *,
        shared: bool = False,
        limits: GrpcLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Args:
        plane: what answers.
        repository: what the process knows.
        ready: whether the process takes requests.
        shared: whether other processes bind the same port, with SO_REUSEPORT.
        tls: how connections are encrypted; None for not at all.
        """
        self.tls = tls
        self.limits = limits or GrpcLimits()
        self.watchers: list[Callable[[WatchedCall, Code, int], None]] = []
        self.beginnings: list[Callable[[Begun], None]] = []
        self.unfinished_bytes = 0
        self._plane, self._shared = plane, shared
        self._methods = {**_inference(plane, Inference(plane, repository, ready)), **_serving(Serving(plane))}
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def manner(self) -> str:
        """How it is spoken to."""
        return "without TLS" if self.tls is None else "over TLS"

    async def listen(self, host: str, port: int) -> int:
        """Answer from now on; the port, chosen by the system where `port` is 0.

        Raises:
            Unavailable: the port is in use.
        """
        loop = asyncio.get_running_loop()
        reuse_port = True if self._shared and sys.platform != "win32" else None
        try:
            self._server = await loop.create_server(
                lambda: Connection(self),
                host,
                port,
                backlog=4096,
                reuse_port=reuse_port,
                ssl=self.tls,
                ssl_handshake_timeout=handshake_s(self.tls),
            )
        except OSError as error:
            raise Unavailable(
                f"cannot answer gRPC on {host}:{port}: {error.strerror or error}", next_step="give another --grpc-port"
            ) from error
        self._sweeper = loop.create_task(self._sweep(), name="loopwright-grpc-sweeper")
        return int(self._server.sockets[0].getsockname()[1])

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, answer what is under way, for `timeout_s` at most."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        end = time.monotonic() + timeout_s
        while self._connections and time.monotonic() < end:
            await asyncio.sleep(_LOOK_S)
        for connection in list(self._connections):
            connection.end()
        if self._sweeper is not None:
            self._sweeper.cancel()

    # what connections ask

    def opened(self, connection: Connection) -> None:
        """A client connected; one too many is turned away."""
        self._connections.add(connection)
        if len(self._connections) > self.limits.connections:
            connection.end()

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def begin(self, call: Call) -> None:
        """The head of a call has come."""
        method: Method | None = call.head.memo
        if method is None:
            method = self._find(call)
            if method is None:
                return
            call.head.memo = method
        if method.converse is not None:
            call.conversation = method.converse(call)

    def take(self, call: Call, message: bytes) -> None:
        """The message of a call has come, which has only one."""
        call.size, call.started_ns = len(message), time.monotonic_ns()
        if self.beginnings:
            call.begun(call)
        handle(self._plane, call.head.memo.unary, call, message)

    def take_pieces(self, call: Call) -> None:
        """All has come of a call that has one message."""
        if len(call.inbox) != 1 or call.is_torn:
            fact = "a part of a message" if call.is_torn else f"{len(call.inbox)} messages"
            refuse(self._plane, call, Invalid(f"the call has {fact}; it takes one message"))
        else:
            self.take(call, call.take())

    def _find(self, call: Call) -> Method | None:
        """What answers a call; where nothing does, it is refused."""
        headers = call.headers
        kind = headers.get(b"content-type", b"")
        if not kind.startswith(b"application/grpc") or kind[16:17] not in _ENDS_OF_TYPE:
            call.turn_away(415)
        elif headers.get(b":method") != b"POST":
            call.turn_away(405)
        elif call.path not in self._methods:
            path = call.path[:200].decode("utf-8", "replace")
            call.finish(Code.UNIMPLEMENTED, f"there is no method {path!r}")
        else:
            return self._methods[call.path]
        return None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.check_age(now)


def _inference(plane: DataPlane, service: Inference) -> dict[bytes, Method]:
    types = messages("inference.proto")
    at_once: dict[str, Callable[[Any], Any]] = {
        "ServerLive": service.live,
        "ServerReady": service.is_ready,
        "ModelReady": service.model_ready,
        "ServerMetadata": service.server_metadata,
        "ModelMetadata": service.metadata,
        "ModelConfig": service.config,
        "RepositoryIndex": service.index,
    }
    found = {name: Method(simple(types[f"{name}Request"], behaviour)) for name, behaviour in at_once.items()}
    found["ModelInfer"] = Method(service.infer)
    found["ModelStreamInfer"] = Method(None, service.stream)
    found["ModelStatistics"] = Method(awaited(plane, types["ModelStatisticsRequest"], service.statistics))
    for name, work in {"Load": service.load, "Unload": service.unload}.items():
        found[f"RepositoryModel{name}"] = Method(awaited(plane, types[f"RepositoryModel{name}Request"], work))
    for kind in ("System", "Cuda"):
        found[f"{kind}SharedMemoryStatus"] = Method(simple(types["SharedMemoryRequest"], _nothing))
        found[f"{kind}SharedMemoryUnregister"] = Method(simple(types["SharedMemoryRequest"], _nothing))
        found[f"{kind}SharedMemoryRegister"] = Method(simple(types["SharedMemoryRequest"], _refuse))
    for name in ("TraceSetting", "LogSettings"):
        found[name] = Method(simple(types["SettingRequest"], _refuse))
    return {f"/{SERVICE}/{name}".encode(): method for name, method in found.items()}


def _serving(service: Serving) -> dict[bytes, Method]:
    types = messages("serving.proto")
    return {
        f"/{PREDICTION}/Predict".encode(): Method(service.predict),
        f"/{PREDICTION}/GetModelMetadata".encode(): Method(simple(types["GetModelMetadataRequest"], service.metadata)),
        f"/{MODELS}/GetModelStatus".encode(): Method(simple(types["GetModelStatusRequest"], service.status)),
    }


def _nothing(_request: Any) -> Any:
    """There are no regions of shared memory."""
    return messages("inference.proto")["SharedMemoryResponse"]()


def _refuse(_request: Any) -> Any:
    raise Invalid("shared memory, trace and log settings are not offered here")
