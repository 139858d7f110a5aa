"""The one composition root: it reads the settings, opens the stores and hands out one service per room."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from loopwright.core import Clock, Location, NotFound, Operation, Scope, locate, new_request, operations_of

if TYPE_CHECKING:
    import msgspec

    from loopwright.data import DatasetService
    from loopwright.features import FeatureStore
    from loopwright.govern import HistoryService, StorageService, TokenService, WebhookService
    from loopwright.loop import LoopService, ScoringJobService
    from loopwright.models import ModelService
    from loopwright.monitor import MonitorService, TraceService
    from loopwright.pipeline import PipelineService
    from loopwright.release import ApprovalService, EndpointService, RolloutService
    from loopwright.serve import ScoringService
    from loopwright.store import Stores
    from loopwright.track import (
        ArtifactService,
        EvalSetService,
        ExperimentService,
        LoggedModelService,
        RequestTraceService,
        RunService,
    )
    from loopwright.train import TrainService

# The rooms that own tables; each has a package of Alembic revisions of its own.
MIGRATIONS = tuple(
    f"loopwright.{room}.migrations"
    for room in (
        "store",
        "govern",
        "data",
        "features",
        "track",
        "pipeline",
        "train",
        "models",
        "monitor",
        "release",
        "loop",
    )
)

# What the API calls a room -> where its service is, and the workspace's attribute that holds it.
SERVICES: dict[str, tuple[str, str, str]] = {
    "datasets": ("loopwright.data", "DatasetService", "datasets"),
    "features": ("loopwright.features", "FeatureStore", "features"),
    "runs": ("loopwright.track", "RunService", "runs"),
    "experiments": ("loopwright.track", "ExperimentService", "experiments"),
    "artifacts": ("loopwright.track", "ArtifactService", "artifacts"),
    "logged": ("loopwright.track", "LoggedModelService", "logged_models"),
    "traces": ("loopwright.track", "RequestTraceService", "traces"),
    "evalsets": ("loopwright.track", "EvalSetService", "eval_sets"),
    "pipelines": ("loopwright.pipeline", "PipelineService", "pipelines"),
    "train": ("loopwright.train", "TrainService", "train"),
    "models": ("loopwright.models", "ModelService", "models"),
    "monitors": ("loopwright.monitor", "MonitorService", "monitors"),
    "lineage": ("loopwright.monitor", "TraceService", "lineage"),
    "endpoints": ("loopwright.release", "EndpointService", "endpoints"),
    "rollouts": ("loopwright.release", "RolloutService", "rollouts"),
    "approvals": ("loopwright.release", "ApprovalService", "approvals"),
    "loops": ("loopwright.loop", "LoopService", "loops"),
    "scoring_jobs": ("loopwright.loop", "ScoringJobService", "scoring_jobs"),
    "events": ("loopwright.govern", "HistoryService", "events"),
    "tokens": ("loopwright.govern", "TokenService", "tokens"),
    "storage": ("loopwright.govern", "StorageService", "storage"),
    "webhooks": ("loopwright.govern", "WebhookService", "webhooks"),
}

# Formats of webhooks beside our own, and where they are.
WEBHOOK_FORMATS = {"mlflow": "loopwright.server.protocols.mlflow.announcing:MLFLOW"}


def holding_rooms() -> list[ModuleType]:
    """The modules in which rooms say what they hold in the object store (`loopwright.store.Room`)."""
    names = [package.rsplit(".", 1)[0] + ".holding" for package in MIGRATIONS]
    return [import_module(name) for name in names if find_spec(name) is not None]


def service_type(room: str) -> type:
    """The class of a room's service.

    Raises:
        NotFound: the API has no such room.
    """
    if room not in SERVICES:
        raise NotFound(f"there is no room {room!r}", next_step=f"the rooms are {', '.join(SERVICES)}")
    module, name, _ = SERVICES[room]
    found: type = getattr(import_module(module), name)
    return found


def operations_in(room: str) -> list[Operation]:
    """The operations whose names begin with `room.`.

    Raises:
        NotFound: the API has no such room.
    """
    return [operation for operation in operations_of(service_type(room)) if operation.room == room]


class Services:
    """One service per room, each made by its first use. The stores are shared by all scopes of one workspace."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @cached_property
    def datasets(self) -> DatasetService:
        """Named tables and file trees, and their immutable versions."""
        from loopwright.data import DatasetService

        return DatasetService(self.stores, self.scope)

    @cached_property
    def features(self) -> FeatureStore:
        """Feature views: point-in-time joins, and the newest values online."""
        from loopwright.features import FeatureStore

        return FeatureStore(self.stores, self.scope, datasets=self.datasets)

    @cached_property
    def runs(self) -> RunService:
        """Runs with params, metrics, tags and artifacts."""
        from loopwright.track import RunService

        return RunService(self.stores, self.scope)

    @cached_property
    def experiments(self) -> ExperimentService:
        """Named groups of runs."""
        from loopwright.track import ExperimentService

        return ExperimentService(self.stores, self.scope)

    @cached_property
    def artifacts(self) -> ArtifactService:
        """Files that hang on runs, logged models and traces."""
        from loopwright.track import ArtifactService

        return ArtifactService(self.stores, self.scope)

    @cached_property
    def logged_models(self) -> LoggedModelService:
        """Models that runs made, registered or not."""
        from loopwright.track import LoggedModelService

        return LoggedModelService(self.stores, self.scope)

    @cached_property
    def traces(self) -> RequestTraceService:
        """What requests went through, told by spans."""
        from loopwright.track import RequestTraceService

        return RequestTraceService(self.stores, self.scope)

    @cached_property
    def eval_sets(self) -> EvalSetService:
        """What models and agents are asked when they are evaluated."""
        from loopwright.track import EvalSetService

        return EvalSetService(self.stores, self.scope)

    @cached_property
    def pipelines(self) -> PipelineService:
        """Pipelines of cached steps, and reproduction of what they made."""
        from loopwright.pipeline import PipelineService

        return PipelineService(
            self.stores,
            self.scope,
            runs=self.runs,
            datasets=self.datasets,
            open_workspace="loopwright.workspace:reopen",
        )

    @cached_property
    def train(self) -> TrainService:
        """Search over hyperparameters, and comparison with a baseline."""
        from loopwright.train import TrainService

        return TrainService(self.stores, self.scope, runs=self.runs, pipelines=self.pipelines)

    @cached_property
    def models(self) -> ModelService:
        """Model versions, their bundles and aliases."""
        from loopwright.models import ModelService

        return ModelService(self.stores, self.scope)

    @cached_property
    def scoring(self) -> ScoringService:
        """Models' answers for all rows of files, tables and datasets."""
        from loopwright.serve import ScoringService

        return ScoringService(self.stores, self.scope, models=self.models, runs=self.runs, datasets=self.datasets)

    @cached_property
    def monitors(self) -> MonitorService:
        """Windows over predictions: drift, performance with late labels, alerts."""
        from loopwright.monitor import MonitorService

        return MonitorService(self.stores, self.scope, models=self.models)

    @cached_property
    def lineage(self) -> TraceService:
        """What came from what, down to single predictions."""
        from loopwright.monitor import TraceService

        return TraceService(self.stores, self.scope)

    @cached_property
    def endpoints(self) -> EndpointService:
        """Addresses that answer predictions, and the traffic of each version."""
        from loopwright.release import EndpointService

        return EndpointService(self.stores, self.scope, models=self.models)

    @cached_property
    def approvals(self) -> ApprovalService:
        """A human's recorded yes or no."""
        from loopwright.release import ApprovalService

        return ApprovalService(self.stores, self.scope)

    @cached_property
    def rollouts(self) -> RolloutService:
        """Planned changes of traffic, judged step by step."""
        from loopwright.release import RolloutService

        return RolloutService(self.stores, self.scope, endpoints=self.endpoints, models=self.models)

    @cached_property
    def loops(self) -> LoopService:
        """Loops: trigger → pipeline → gates → approval → rollout → guard."""
        from loopwright.loop import LoopService

        return LoopService(self.stores, self.scope)

    @cached_property
    def scoring_jobs(self) -> ScoringJobService:
        """Batch scoring that is declared once and runs when its triggers fire."""
        from loopwright.loop import ScoringJobService

        return ScoringJobService(self.stores, self.scope)

    @cached_property
    def events(self) -> HistoryService:
        """The audit trail."""
        from loopwright.govern import HistoryService

        return HistoryService(self.stores, self.scope)

    @cached_property
    def tokens(self) -> TokenService:
        """Access tokens and roles."""
        from loopwright.govern import TokenService

        return TokenService(self.stores, self.scope)

    @cached_property
    def storage(self) -> StorageService:
        """Holds, and the removal of what nobody needs."""
        from loopwright.govern import StorageService

        return StorageService(self.stores, self.scope, rooms=holding_rooms())

    @cached_property
    def webhooks(self) -> WebhookService:
        """Addresses outside that are told what happens."""
        from loopwright.govern import WebhookService

        return WebhookService(self.stores, self.scope, formats=WEBHOOK_FORMATS)


class Workspace(Services):
    """A local workspace in one project, on behalf of one actor. Use it in a `with`, or close it.

        with loopwright.connect() as ws:
            ws.datasets.ingest("flights", "flights.csv")

    The stores are shared by all scopes of one workspace and may be used by several threads.
    """

    @property
    def location(self) -> Location:
        """Where the workspace is, and its settings."""
        return self.stores.location

    @property
    def clock(self) -> Clock:
        """The workspace's time."""
        return self.stores.clock

    def scoped(self, scope: Scope) -> Workspace:
        """The same workspace in another project, for another actor, or because of another cause."""
        return Workspace(self.stores, scope)

    def service(self, room: str) -> Any:
        """The service behind a room of the API.

        Raises:
            NotFound: the API has no such room.
        """
        service_type(room)
        return getattr(self, SERVICES[room][2])

    def call(self, operation: Operation, request: msgspec.Struct) -> Any:
        """Call an operation with a decoded request."""
        return operation.call(self.service(operation.room), request)

    def close(self) -> None:
        """Close the stores. Services and other scopes of this workspace cannot be used afterwards."""
        self.stores.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.location.root)!r}, project={self.scope.project!r})"


def open_workspace(
    where: str | Path | None = None, *, project: str | None = None, actor: str = "user:local", cause: str = ""
) -> Workspace:
    """Open a local workspace; its folder and stores are made if they are missing.

    Args:
        where: its folder; by default `LOOPWRIGHT_WORKSPACE`, else the nearest `loopwright.toml` upwards, else here.
        project: the project inside it; by default the one that the settings name.
        actor: on whose behalf; events name it.
        cause: the ref of what led to this; by default a new request.

    Raises:
        Invalid: the settings are malformed.
        Unavailable: a store cannot be reached or written.
        Conflict: the workspace was made by a newer Loopwright.
        Corrupt: its database is damaged.
    """
    from loopwright.loop import workspace_clock
    from loopwright.store import open_stores

    location = locate(where)
    stores = open_stores(location, MIGRATIONS, clock_of=lambda db: workspace_clock(location.settings, db))
    return Workspace(stores, Scope(project or location.settings.project, actor, cause or new_request()))


def reopen(root: str, scope: Scope) -> Workspace:
    """Open the same workspace in another process on this machine, in the same scope."""
    return open_workspace(root, project=scope.project, actor=scope.actor, cause=scope.cause)
