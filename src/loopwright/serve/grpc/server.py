"""The server: every service over gRPC on one port, on the event loop of the data plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loopwright.core import Invalid, Unavailable, missing_extra
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.repository import Repository

try:
    import grpc
    from google.protobuf import message_factory  # noqa: F401  (our messages need it)
except ImportError:
    raise missing_extra("grpcio", "grpc", "serving over gRPC") from None

from loopwright.serve.grpc.calls import Behaviour, told
from loopwright.serve.grpc.inference import SERVICE, Inference
from loopwright.serve.grpc.protos import messages, read
from loopwright.serve.grpc.serving import MODELS, PREDICTION, Serving

_MESSAGE_BYTES = 64 << 20
_STREAMS = 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", _STREAMS),
]


class GrpcServer:
    """Answers gRPC. Lives on one event loop."""

    def __init__(
        self,
        plane: DataPlane,
        repository: Callable[[], Repository],
        ready: Callable[[], bool],
        *,
        shared: bool = False,
    ) -> None:
        """Args:
        plane: what answers.
        repository: what the process knows.
        ready: whether the process takes requests.
        shared: whether other processes bind the same port, with SO_REUSEPORT.
        """
        self._server = grpc.aio.server(options=[*_OPTIONS, ("grpc.so_reuseport", int(shared))])
        self._server.add_generic_rpc_handlers(
            (_inference(Inference(plane, repository, ready)), *_serving(Serving(plane)))
        )

    async def listen(self, host: str, port: int) -> int:
        """Answer from now on; the port, chosen by the system where `port` is 0.

        Raises:
            Unavailable: the port is in use.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            found = self._server.add_insecure_port(address)
        except RuntimeError as error:
            found = 0
            reason = str(error).splitlines()[0][:200]
        else:
            reason = "in use"
        if not found:
            raise Unavailable(f"cannot answer gRPC on {address}: {reason}", next_step="give another --grpc-port")
        await self._server.start()
        return int(found)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, answer what is under way, for `timeout_s` at most."""
        await self._server.stop(timeout_s)


def _inference(service: Inference) -> Any:
    types = messages("inference.proto")
    unary: dict[str, Behaviour] = {
        "ModelInfer": service.infer,
        "ServerLive": service.live,
        "ServerReady": service.is_ready,
        "ModelReady": service.model_ready,
        "ServerMetadata": service.server_metadata,
        "ModelMetadata": service.metadata,
        "ModelConfig": service.config,
        "ModelStatistics": service.statistics,
        "RepositoryIndex": service.index,
        "RepositoryModelLoad": service.load,
        "RepositoryModelUnload": service.unload,
    }
    handlers = {name: _unary(behaviour, types[f"{name}Request"]) for name, behaviour in unary.items()}
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(service.stream, None, _serialised)
    for kind in ("System", "Cuda"):
        handlers[f"{kind}SharedMemoryStatus"] = _unary(_nothing, types["SharedMemoryRequest"])
        handlers[f"{kind}SharedMemoryUnregister"] = _unary(_nothing, types["SharedMemoryRequest"])
        handlers[f"{kind}SharedMemoryRegister"] = _unary(_refuse, types["SharedMemoryRequest"])
    for name in ("TraceSetting", "LogSettings"):
        handlers[name] = _unary(_refuse, types["SettingRequest"])
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _serving(service: Serving) -> list[Any]:
    types = messages("serving.proto")
    predicting = {
        "Predict": _unary(service.predict, types["PredictRequest"]),
        "GetModelMetadata": _unary(service.metadata, types["GetModelMetadataRequest"]),
    }
    models = {"GetModelStatus": _unary(service.status, types["GetModelStatusRequest"])}
    return [
        grpc.method_handlers_generic_handler(PREDICTION, predicting),
        grpc.method_handlers_generic_handler(MODELS, models),
    ]


def _unary(behaviour: Behaviour, request: Any) -> Any:
    """A handler that reads the request itself, so that one that cannot be read is told as what it is."""

    async def read_first(data: bytes, context: Any) -> Any:
        return await behaviour(read(request, data), context)

    return grpc.unary_unary_rpc_method_handler(told(read_first), None, _serialised)


def _serialised(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found


async def _nothing(_request: Any, _context: Any) -> Any:
    """There are no regions of shared memory."""
    return messages("inference.proto")["SharedMemoryResponse"]()


async def _refuse(_request: Any, _context: Any) -> Any:
    raise Invalid("shared memory, trace and log settings are not offered here")
