"""A served bundle: in this process on an event loop, and as a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from tests.models.conftest import Trips, bundle, fitted, trips

from loopwright.models import Bundle, build_bundle
from loopwright.serve import (
    InferenceProcess,
    LogPolicy,
    ServedEndpoint,
    ServingState,
    Variant,
    write_state,
)
from loopwright.serve.admission import Limits
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.metrics import Metrics
from loopwright.serve.prediction_log import PredictionLog
from loopwright.store import open_objects, put_tree

__all__ = ["bundle", "fitted", "trips"]

DIGEST = "0" * 64


def adding_bundle(amount: float, folder: Path, second: str = "") -> Bundle:
    """A model that adds a number to `x` (or `x` and another input): who answered shows in the answer."""
    names = ["x", second] if second else ["x"]
    nodes = [helper.make_node("Add", ["x", "amount"], ["sum"])]
    nodes.append(
        helper.make_node("Add", ["sum", second], ["y"]) if second else helper.make_node("Identity", ["sum"], ["y"])
    )
    graph = helper.make_graph(
        nodes,
        "adding",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [helper.make_tensor("amount", TensorProto.FLOAT, [], [amount])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return build_bundle(model, pl.DataFrame({name: [1.0, 2.0] for name in names}), folder=folder)


def failing_bundle(folder: Path) -> Bundle:
    """A model that looks `x` up in a table of three: it fails on any other row."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "lookup",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [helper.make_tensor("table", TensorProto.FLOAT, [3], [10.0, 20.0, 30.0])],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return build_bundle(model, pl.DataFrame({"x": [0, 1]}), folder=folder)


@dataclass
class Plane:
    """A data plane with its log, and what it serves."""

    folder: Path
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.log = PredictionLog(self.folder / "journal")
        self.plane = DataPlane(self.log, self.metrics, self.limits)

    def serve(self, *variants: tuple[Variant, Bundle], name: str = "e", log: LogPolicy | None = None) -> LoadedEndpoint:
        """Serve variants under one name; each variant's digest is made from its name."""
        predictors, keys, named = {}, {}, []
        for number, (variant, made) in enumerate(variants):
            digest = f"{number:064x}"
            predictors[digest] = made.predictor()
            keys[digest] = self.log.columns_key(made.signature.names)
            named.append(Variant(variant.name, variant.model, digest, variant.weight, variant.shadow))
        endpoint = LoadedEndpoint(ServedEndpoint(name, "salt", tuple(named), log or LogPolicy()), predictors, keys)
        self.plane.replace([*(e for e in self.plane.endpoints.values() if e.spec.name != name), endpoint], 1)
        return endpoint


@pytest.fixture
def make_plane(tmp_path: Path) -> Callable[..., Plane]:
    return lambda **settings: Plane(tmp_path, **settings)


@dataclass
class Served:
    """A workspace's serving files, and the processes that serve them."""

    root: Path

    def __post_init__(self) -> None:
        self.objects = open_objects(str(self.root / "objects"))
        self.state, self.journal = self.root / "serving" / "state.json", self.root / "journal"
        self.revision = 0
        self.processes: list[InferenceProcess] = []

    def put(self, made: Bundle) -> str:
        return put_tree(self.objects, made.folder)

    def publish(self, *endpoints: ServedEndpoint) -> int:
        self.revision += 1
        write_state(self.state, ServingState(self.revision, endpoints))
        return self.revision

    def start(self, **settings: Any) -> InferenceProcess:
        process = InferenceProcess.start(
            state=self.state,
            objects=str(self.root / "objects"),
            journal=self.journal,
            cache=self.root / "cache",
            **settings,
        )
        self.processes.append(process)
        return process


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Serving files in a fresh folder; processes that the test started are ended."""
    made = Served(tmp_path)
    yield made
    for process in made.processes:
        process.stop(timeout_s=5)


@pytest.fixture
def trips_columns(trips: Trips) -> dict[str, list[Any]]:
    return {name: values.to_list() for name, values in trips.rows.to_dict().items()}


@pytest.fixture(scope="session")
def expected(fitted: Any, trips: Trips) -> np.ndarray[Any, Any]:
    """The original's probability for each row."""
    return np.asarray(fitted.predict_proba(trips.rows)[:, 1])
