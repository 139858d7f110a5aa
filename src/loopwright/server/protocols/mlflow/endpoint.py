"""An endpoint of the protocol, and how it asks our services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from loopwright.server.protocols.mlflow import wire
from loopwright.server.route import AtOnce, Call

if TYPE_CHECKING:
    from loopwright.govern import WebhookService
    from loopwright.models import ModelService
    from loopwright.track import (
        ArtifactService,
        EvalSetService,
        ExperimentService,
        LoggedModelService,
        RequestTraceService,
        RunService,
    )

T = TypeVar("T")
Answer = Callable[[Call, Any], Awaitable[object]]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of the protocol.

    Args:
        method: the HTTP method.
        path: the whole path, such as `/api/2.0/mlflow/runs/create`.
        permission: `room:read`, `room:write` or `public`.
        request: what is decoded: from the query of a GET, else from the body.
        answer: gives the reply's record, None for an empty object, or a finished response.
        at_once: answers with an empty object what is ordinary, without a thread.
    """

    method: str
    path: str
    permission: str
    request: type[wire.Request]
    answer: Answer
    at_once: AtOnce | None = None


class Rooms:
    """The services that endpoints work with, in the scope of a call."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def runs(self) -> RunService:
        """Runs."""
        return self._service("runs")  # type: ignore[no-any-return]  # services are found by name

    @property
    def experiments(self) -> ExperimentService:
        """Experiments."""
        return self._service("experiments")  # type: ignore[no-any-return]  # services are found by name

    @property
    def models(self) -> ModelService:
        """Models and their versions."""
        return self._service("models")  # type: ignore[no-any-return]  # services are found by name

    @property
    def artifacts(self) -> ArtifactService:
        """Files of runs, logged models and traces."""
        return self._service("artifacts")  # type: ignore[no-any-return]  # services are found by name

    @property
    def logged_models(self) -> LoggedModelService:
        """Models that runs made, registered or not."""
        return self._service("logged")  # type: ignore[no-any-return]  # services are found by name

    @property
    def traces(self) -> RequestTraceService:
        """Traces of requests."""
        return self._service("traces")  # type: ignore[no-any-return]  # services are found by name

    @property
    def eval_sets(self) -> EvalSetService:
        """Evaluation sets and their records."""
        return self._service("evalsets")  # type: ignore[no-any-return]  # services are found by name

    @property
    def webhooks(self) -> WebhookService:
        """Addresses outside that are told what happens."""
        return self._service("webhooks")  # type: ignore[no-any-return]  # services are found by name

    def _service(self, room: str) -> Any:
        return self._call.services.service(room, self._call.scope)


async def ask(call: Call, work: Callable[[Rooms], T]) -> T:
    """Work with services, in a thread; the route's permission was judged already."""
    found: T = await call.services.in_thread(lambda: work(Rooms(call)))
    return found
