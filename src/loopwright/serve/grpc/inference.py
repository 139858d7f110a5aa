"""The Open Inference Protocol V2 over gRPC, with Triton's extensions.

https://github.com/kserve/open-inference-protocol, `specification/protocol/open_inference_grpc.proto`, and Triton's
`grpc_service.proto`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from loopwright import __version__
from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.serve.asking import ask
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.describing import config_of, metadata_of, statistics_of
from loopwright.serve.grpc.calls import code_of, count, deadline_of, endpoint_of
from loopwright.serve.grpc.protos import messages, read
from loopwright.serve.grpc.tensors import outputs_of, rows_of, write_outputs
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.loading import Loading
from loopwright.serve.query import Answer
from loopwright.serve.repository import ModelState, Repository
from loopwright.serve.rest import v2
from loopwright.serve.rest.v2_models import EXTENSIONS

SERVICE = "inference.GRPCInferenceService"
_STREAMED = 64  # requests of one stream that are under way at once
_FINAL = "triton_final_response"


class Inference:
    """Answers the calls of GRPCInferenceService; each method has the name of its call."""

    def __init__(self, plane: DataPlane, repository: Callable[[], Repository], ready: Callable[[], bool]) -> None:
        """Args:
        repository: what the process knows.
        ready: whether the process takes requests.
        """
        self._plane, self._repository, self._ready = plane, repository, ready
        self._types = messages("inference.proto")
        self._response = self._types["ModelInferResponse"]

    # inference

    async def infer(self, request: Any, context: Any) -> Any:
        """ModelInfer."""
        started_ns = time.monotonic_ns()
        return await self._infer(request, started_ns, deadline_of(context, started_ns))

    async def stream(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[Any]:
        """ModelStreamInfer: a response for each request, in their order; an error is told, and the stream goes on."""
        under_way: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(_STREAMED)

        async def read() -> None:
            async for data in requests:
                await under_way.put(asyncio.create_task(self._streamed(data), name="loopwright-stream"))
            await under_way.put(None)

        reading = asyncio.create_task(read(), name="loopwright-stream-reader")
        try:
            while (task := await under_way.get()) is not None:
                yield await task
        finally:
            reading.cancel()

    async def _streamed(self, data: bytes) -> Any:
        wrapped = self._types["ModelStreamInferResponse"]
        request = self._types["ModelInferRequest"]()
        try:
            request = read(self._types["ModelInferRequest"], data)
            response = await self._infer(request, time.monotonic_ns(), 0)
        except Exception as error:  # noqa: BLE001  (told within the stream, which goes on)
            _, text = code_of(error)
            return wrapped(error_message=text, infer_response=self._response(id=request.id))
        if request.parameters["triton_enable_empty_final_response"].bool_param:
            response.parameters[_FINAL].bool_param = True
        return wrapped(infer_response=response)

    async def _infer(self, request: Any, started_ns: int, deadline_ns: int) -> Any:
        name = request.model_name
        status = 500
        try:
            endpoint = await endpoint_of(self._plane, name)
            rows = rows_of(request, endpoint.intake)
            given = _given(request, len(rows)) if request.parameters else {}
            version = request.model_version
            answer = await ask(self._plane, endpoint, rows, started_ns, deadline_ns, version=version, **given)
            response = self._written(request, answer, endpoint)
            status = 200
        except NotFound:
            name = name if name in self._plane.endpoints else ""  # labels come from the state alone
            status = 404
            raise
        except LoopwrightError as error:
            status = error.http_status
            raise
        finally:
            count(self._plane, name, status, started_ns)
        return response

    def _written(self, request: Any, answer: Answer, endpoint: LoadedEndpoint) -> Any:
        loaded = answer.query.parts[0].loaded
        response = self._response(model_name=endpoint.spec.name, model_version=loaded.version, id=request.id)
        parameters = response.parameters
        parameters["prediction_ids"].string_param = ",".join(answer.ids)
        parameters["variant"].string_param = loaded.variant.name
        parameters["model"].string_param = loaded.variant.model
        if len(answer.query.parts) > 1:
            parameters["variants"].string_param = ",".join(answer.variants)
        raw = bool(request.raw_input_contents)
        write_outputs(response, answer, outputs_of(request, answer), raw=raw)
        return response

    # health and metadata

    async def live(self, _request: Any, _context: Any) -> Any:
        """ServerLive."""
        return self._types["ServerLiveResponse"](live=True)

    async def is_ready(self, _request: Any, _context: Any) -> Any:
        """ServerReady."""
        return self._types["ServerReadyResponse"](ready=self._ready())

    async def model_ready(self, request: Any, _context: Any) -> Any:
        """ModelReady: false for a model that is not there, as Triton answers."""
        try:
            self._endpoint(request)
        except Loading:
            raise  # waited for, and asked again
        except (NotFound, Unavailable):
            return self._types["ModelReadyResponse"](ready=False)
        return self._types["ModelReadyResponse"](ready=True)

    async def server_metadata(self, _request: Any, _context: Any) -> Any:
        """ServerMetadata."""
        kind = self._types["ServerMetadataResponse"]
        return kind(name="loopwright", version=__version__, extensions=EXTENSIONS)

    async def metadata(self, request: Any, _context: Any) -> Any:
        """ModelMetadata."""
        return self._types["ModelMetadataResponse"](**metadata_of(self._endpoint(request)))

    async def config(self, request: Any, _context: Any) -> Any:
        """ModelConfig."""
        return self._types["ModelConfigResponse"](config=config_of(self._endpoint(request)))

    async def statistics(self, request: Any, _context: Any) -> Any:
        """ModelStatistics: of all models if none is named."""
        chosen = [self._endpoint(request)] if request.name else list(self._plane.endpoints.values())
        metrics, version = self._plane.metrics, request.version
        stats = [item for endpoint in chosen for item in statistics_of(endpoint, metrics, version)]
        return self._types["ModelStatisticsResponse"](model_stats=stats)

    def _endpoint(self, request: Any) -> LoadedEndpoint:
        endpoint = self._plane.endpoint(request.name)
        if request.version:
            endpoint.at_version(request.version)
        return endpoint

    # the repository

    async def index(self, request: Any, _context: Any) -> Any:
        """RepositoryIndex."""
        entries = self._repository().index()
        found = [
            {"name": item.name, "version": item.version, "state": str(item.state), "reason": item.reason}
            for item in entries
            if not request.ready or item.state is ModelState.READY
        ]
        return self._types["RepositoryIndexResponse"](models=found)

    async def load(self, request: Any, _context: Any) -> Any:
        """RepositoryModelLoad."""
        if request.parameters:
            raise Invalid(
                "a request to load takes no configuration and no files",
                next_step="register the version, and publish it through an endpoint",
            )
        await self._repository().load(request.model_name)
        return self._types["RepositoryModelLoadResponse"]()

    async def unload(self, request: Any, _context: Any) -> Any:
        """RepositoryModelUnload."""
        await self._repository().unload(request.model_name)
        return self._types["RepositoryModelUnloadResponse"]()


def _given(request: Any, count: int) -> dict[str, Any]:
    """Whose rows they are and when they happened, as the request's parameters say."""
    parameters = {}
    for name in ("key", "event_time"):
        if name in request.parameters:
            item = request.parameters[name]
            parameters[name] = getattr(item, item.WhichOneof("parameter_choice") or "string_param")
    told = v2.InferRequest([], parameters=parameters)
    return {"keys": v2.keys_of(told, count), "event_times": v2.event_times_of(told, count)}
