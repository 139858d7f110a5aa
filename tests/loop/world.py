"""The services that loops need, of one project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.loop.project import fitted, make_rows
from tests.release.world import World

from loopwright.core import Scope
from loopwright.loop import Loop, LoopService
from loopwright.models import ModelVersion
from loopwright.monitor import Monitor, MonitorService, PerformancePolicy
from loopwright.release import RolloutPlan
from loopwright.store import Event

PLAN = RolloutPlan(steps=(0.25, 0.5), max_loss_increase=0.05, min_labels=100)
_bundles: dict[tuple[float, str], Any] = {}


@dataclass(frozen=True)
class LoopWorld(World):
    """As `World`, with monitors and loops."""

    @property
    def monitors(self) -> MonitorService:
        return MonitorService(self.stores, self.scope, models=self.models)

    @property
    def loops(self) -> LoopService:
        return LoopService(self.stores, self.scope)

    def scoped(self, scope: Scope) -> LoopWorld:
        return LoopWorld(self.stores, scope)

    def fit(self, shift: float = 0.0, damage: str = "", **more: Any) -> ModelVersion:
        """A new version of `delay`, fitted to a world that is shifted so."""
        if (shift, damage) not in _bundles:
            _bundles[shift, damage] = fitted(make_rows(3000, seed=3, shift=shift), damage)
        return self.models.register("delay", _bundles[shift, damage], **more)

    def watch(self) -> None:
        """A monitor of the endpoint's performance, in windows of a day."""
        policy = PerformancePolicy(max_drop=0.05, consecutive=2)
        self.monitors.apply(Monitor(name="delay", endpoint="delay", drift=None, performance=policy))

    def declare(self, **changes: Any) -> Loop:
        """The loop `delay`, declared."""
        values = {"name": "delay", "endpoint": "delay", "model": "delay", "pipeline": "training:retrain"}
        loop = Loop(**{**values, "rollout": PLAN, **changes})
        return self.loops.apply(loop).loop

    def events(self, *kinds: str) -> list[Event]:
        """All events so far, or those of these kinds, in order."""
        return self.stores.events.read(limit=100_000, kinds=kinds)

    def causes(self, event: Event) -> list[str]:
        """The kinds on the way from an event back to its first cause. A run stands for the event that started it."""
        kinds = [event.kind]
        while event.cause:
            if event.cause.startswith("run:"):
                event = next(e for e in self.events("run.started") if e.subject == event.cause)
            elif event.cause.startswith("event:"):
                event = self.stores.events.get(event.cause)
            else:
                break
            kinds.append(event.kind)
        return kinds
