"""What the controller needs of a workspace: its stores and the services of the rooms below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from loopwright.core import Scope
    from loopwright.data import DatasetService
    from loopwright.models import ModelService
    from loopwright.monitor import MonitorService
    from loopwright.release import ApprovalService, EndpointService, RolloutService
    from loopwright.serve import ScoringService
    from loopwright.store import Stores
    from loopwright.track import RunService


class Rooms(Protocol):
    """A workspace in one project, on behalf of one actor. `scoped` gives the same for another."""

    @property
    def stores(self) -> Stores: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def datasets(self) -> DatasetService: ...
    @property
    def runs(self) -> RunService: ...
    @property
    def models(self) -> ModelService: ...
    @property
    def scoring(self) -> ScoringService: ...
    @property
    def monitors(self) -> MonitorService: ...
    @property
    def endpoints(self) -> EndpointService: ...
    @property
    def approvals(self) -> ApprovalService: ...
    @property
    def rollouts(self) -> RolloutService: ...

    def scoped(self, scope: Scope) -> Rooms: ...
