"""The Open Inference Protocol V2 over gRPC, with Triton's extensions.

https://github.com/kserve/open-inference-protocol, `specification/protocol/open_inference_grpc.proto`, and Triton's
`grpc_service.proto`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loopwright import __version__
from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.describing import config_of, metadata_of, statistics_of
from loopwright.serve.grpc.call import Call
from loopwright.serve.grpc.calls import Caller, count, handle, refuse
from loopwright.serve.grpc.plans import Plan, Plans
from loopwright.serve.grpc.protos import messages, read
from loopwright.serve.grpc.stream import Stream
from loopwright.serve.grpc.tensors import outputs_of, rows_of, write_outputs
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.loading import Loading
from loopwright.serve.query import Answer, Query
from loopwright.serve.repository import ModelState, Repository
from loopwright.serve.rest import v2
from loopwright.serve.rest.v2_models import EXTENSIONS

SERVICE = "inference.GRPCInferenceService"
_WANTS_FINAL, _FINAL = "triton_enable_empty_final_response", "triton_final_response"


class Inference:
    """Answers the calls of GRPCInferenceService; each method has the name of its call."""

    def __init__(self, plane: DataPlane, repository: Callable[[], Repository], ready: Callable[[], bool]) -> None:
        """Args:
        repository: what the process knows.
        ready: whether the process takes requests.
        """
        self._plane, self._repository, self._ready = plane, repository, ready
        self._types = messages("inference.proto")
        self._request, self._response = self._types["ModelInferRequest"], self._types["ModelInferResponse"]
        self._plans = Plans()

    # inference

    def infer(self, caller: Caller, data: bytes) -> None:
        """ModelInfer, and each request of ModelStreamInfer."""
        plane = self._plane
        plane.admit(caller.started_ns)
        plan = self._plans.find(data)
        if plan is not None and plane.endpoints.get(plan.endpoint.spec.name) is plan.endpoint:
            caller.endpoint = plan.endpoint.spec.name
            plane.admit_to(plan.endpoint, caller.started_ns)
            rows = plan.rows(data)
            if rows is not None:
                self._ask(caller, plan.endpoint, plan.request, rows, plan)
                return
        request = read(self._request, data)
        endpoint = plane.endpoint(request.model_name)
        caller.endpoint = endpoint.spec.name
        rows = rows_of(request, endpoint.intake)
        self._plans.learn(data, request, endpoint)
        self._ask(caller, endpoint, request, rows, None)

    def _ask(self, caller: Caller, endpoint: LoadedEndpoint, request: Any, rows: Rows, plan: Plan | None) -> None:
        def reply(answer: Answer | LoopwrightError) -> None:
            try:
                if isinstance(answer, LoopwrightError):
                    raise answer
                response = plan.write(answer) if plan is not None else None
                if response is None:
                    response = self._written(request, answer, endpoint, raw=plan is not None)
                count(self._plane, caller)
                caller.answer(response)
            except Exception as error:  # noqa: BLE001  (answered; others wait for their replies)
                refuse(self._plane, caller, error)

        given = _given(request, len(rows)) if request.parameters else {}
        query = Query(
            endpoint.spec.name,
            rows,
            reply,
            version=request.model_version,
            started_ns=caller.started_ns,
            deadline_ns=caller.deadline_ns,
            **given,
        )
        self._plane.submit(query, endpoint)

    def stream(self, call: Call) -> Stream:
        """ModelStreamInfer."""
        return Stream(call, lambda place, data: handle(self._plane, self.infer, place, data))

    def _written(self, request: Any, answer: Answer, endpoint: LoadedEndpoint, *, raw: bool) -> bytes:
        loaded = answer.query.parts[0].loaded
        response = self._response(model_name=endpoint.spec.name, model_version=loaded.version, id=request.id)
        parameters = response.parameters
        parameters["prediction_ids"].string_param = ",".join(answer.ids)
        parameters["variant"].string_param = loaded.variant.name
        parameters["model"].string_param = loaded.variant.model
        if len(answer.query.parts) > 1:
            parameters["variants"].string_param = ",".join(answer.variants)
        if _WANTS_FINAL in request.parameters and request.parameters[_WANTS_FINAL].bool_param:
            parameters[_FINAL].bool_param = True
        raw = raw or bool(request.raw_input_contents)
        write_outputs(response, answer, outputs_of(request, loaded), raw=raw)
        found: bytes = response.SerializeToString()
        return found

    # health and metadata

    def live(self, _request: Any) -> Any:
        """ServerLive."""
        return self._types["ServerLiveResponse"](live=True)

    def is_ready(self, _request: Any) -> Any:
        """ServerReady."""
        return self._types["ServerReadyResponse"](ready=self._ready())

    def model_ready(self, request: Any) -> Any:
        """ModelReady: false for a model that is not there, as Triton answers."""
        try:
            self._endpoint(request)
        except Loading:
            raise  # waited for, and asked again
        except (NotFound, Unavailable):
            return self._types["ModelReadyResponse"](ready=False)
        return self._types["ModelReadyResponse"](ready=True)

    def server_metadata(self, _request: Any) -> Any:
        """ServerMetadata."""
        kind = self._types["ServerMetadataResponse"]
        return kind(name="loopwright", version=__version__, extensions=EXTENSIONS)

    def metadata(self, request: Any) -> Any:
        """ModelMetadata."""
        return self._types["ModelMetadataResponse"](**metadata_of(self._endpoint(request)))

    def config(self, request: Any) -> Any:
        """ModelConfig."""
        return self._types["ModelConfigResponse"](config=config_of(self._endpoint(request)))

    async def statistics(self, request: Any) -> Any:
        """ModelStatistics: of all models if none is named."""
        runs = await self._plane.metrics.all_runs()
        try:
            chosen = [self._endpoint(request)] if request.name else list(self._plane.endpoints.values())
        except Loading as loading:
            await loading.wait()
            chosen = [self._endpoint(request)]
        stats = [item for endpoint in chosen for item in statistics_of(endpoint, runs, request.version)]
        return self._types["ModelStatisticsResponse"](model_stats=stats)

    def _endpoint(self, request: Any) -> LoadedEndpoint:
        endpoint = self._plane.endpoint(request.name)
        if request.version:
            endpoint.at_version(request.version)
        return endpoint

    # the repository

    def index(self, request: Any) -> Any:
        """RepositoryIndex."""
        entries = self._repository().index()
        found = [
            {"name": item.name, "version": item.version, "state": str(item.state), "reason": item.reason}
            for item in entries
            if not request.ready or item.state is ModelState.READY
        ]
        return self._types["RepositoryIndexResponse"](models=found)

    async def load(self, request: Any) -> Any:
        """RepositoryModelLoad."""
        if request.parameters:
            raise Invalid(
                "a request to load takes no configuration and no files",
                next_step="register the version, and publish it through an endpoint",
            )
        await self._repository().load(request.model_name)
        return self._types["RepositoryModelLoadResponse"]()

    async def unload(self, request: Any) -> Any:
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
