"""A small world to release models into: rows with a known truth, and versions that are weak, strong or broken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from loopwright.core import Scope
from loopwright.data import DatasetService
from loopwright.models import Bundle, ModelService, ModelVersion, build_bundle
from loopwright.release import ApprovalService, EndpointService, RolloutService
from loopwright.store import Stores
from loopwright.track import RunService


def make_rows(count: int, seed: int) -> pl.DataFrame:
    """Rows with two inputs that matter, one place to slice by, and a truth."""
    rng = np.random.default_rng(seed)
    wind, traffic = rng.normal(size=count), rng.normal(size=count)
    chance = 1 / (1 + np.exp(-(1.5 * wind + 1.0 * traffic - 0.5)))
    return pl.DataFrame(
        {
            "wind": wind,
            "traffic": traffic,
            "origin": rng.choice(["EWR", "JFK", "LGA"], count),
            "late": (rng.random(count) < chance).astype(np.int64),
        }
    )


def _fit(rows: pl.DataFrame, damage: str) -> Any:
    inputs = rows.select("wind", "traffic").to_pandas()
    if damage == "weak":
        inputs["wind"] = 0.0
    if damage == "broken":
        inputs["wind"] = -inputs["wind"]
    return LogisticRegression().fit(inputs, rows["late"].to_numpy())


@cache
def bundle_of(kind: str) -> Bundle:
    """`strong` uses both inputs, `weak` only one, `broken` one of them with the wrong sign. Built once a session."""
    rows = make_rows(3000, seed=1)
    folder = Path(mkdtemp(prefix="loopwright-test-")) / kind
    sample = rows.select("wind", "traffic")
    return build_bundle(_fit(rows, kind), sample, task="binary", target="late", folder=folder)


_SCOPE = Scope()


@dataclass(frozen=True)
class World:
    """The services of one project."""

    stores: Stores
    scope: Scope = _SCOPE

    @property
    def datasets(self) -> DatasetService:
        return DatasetService(self.stores, self.scope)

    @property
    def runs(self) -> RunService:
        return RunService(self.stores, self.scope)

    @property
    def models(self) -> ModelService:
        return ModelService(self.stores, self.scope)

    @property
    def endpoints(self) -> EndpointService:
        return EndpointService(self.stores, self.scope, models=self.models)

    @property
    def approvals(self) -> ApprovalService:
        return ApprovalService(self.stores, self.scope)

    @property
    def rollouts(self) -> RolloutService:
        return RolloutService(self.stores, self.scope, endpoints=self.endpoints, models=self.models)

    def scoped(self, scope: Scope) -> World:
        return World(self.stores, scope)

    def register(self, kind: str, **more: Any) -> ModelVersion:
        """A new version of `delay`."""
        return self.models.register("delay", bundle_of(kind), tags={"kind": kind, **more.pop("tags", {})}, **more)

    def kinds(self, *prefixes: str) -> list[str]:
        """The kinds of the events so far, in order, that begin with one of these."""
        events = self.stores.events.read(limit=10_000)
        return [event.kind for event in events if not prefixes or event.kind.startswith(prefixes)]

    def served(self, endpoint: str = "delay") -> dict[str, float]:
        """The weights that are published now, by model ref."""
        from loopwright.serve import read_state

        state = read_state(self.stores.data / "serving" / "state.json")
        found = next(item for item in state.endpoints if item.name == endpoint)
        return {variant.model: variant.weight for variant in found.variants}
