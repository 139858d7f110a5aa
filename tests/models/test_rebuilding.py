"""Versions that MLflow's API registered become bundles that can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import yaml
from tests.models.conftest import Trips

from loopwright.core import Conflict, Invalid, Scope, new_id
from loopwright.models import Bundle, Kind, ModelService, rebuild_version
from loopwright.store import Stores
from loopwright.track import RunService


@pytest.mark.slow
def test_a_pickle_that_mlflow_registered_is_built_into_a_graph_beside_it(
    stores: Stores, fitted: Any, trips: Trips, tmp_path: Path
) -> None:
    registry = ModelService(stores, Scope(actor="user:ada"))
    flavours = {"sklearn": {"pickled_model": "model.pkl"}, "python_function": {"model_path": "model.pkl"}}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours}), encoding="utf-8")
    joblib.dump(fitted, tmp_path / "model.pkl")
    runs = RunService(stores, Scope(actor="user:ada"))
    run = runs.start("trips")
    for name in ("MLmodel", "model.pkl"):
        runs.log_artifact(run.id, (tmp_path / name).read_bytes(), f"model/{name}")
    registry.create("delay")
    held = registry.register_source("delay", "runs:/model", owner=f"run:{run.id}", folder="model", run=run.id)
    assert held.kind is Kind.MLFLOW
    with pytest.raises(Invalid, match="allow_pickle=True"):
        rebuild_version(registry, held.ref, trips.rows)
    made = rebuild_version(registry, held.ref, trips.rows, allow_pickle=True, target="late")
    assert (made.kind, made.version, made.run) == (Kind.BUNDLE, 2, run.id)
    assert made.tags["rebuilt_from"] == "model:delay@1"
    given = registry.predict(made.ref, trips.rows)["probability"]
    np.testing.assert_allclose(given, fitted.predict_proba(trips.rows)[:, 1], atol=1e-5)


def test_a_version_without_such_a_folder_is_refused(stores: Stores, bundle: Bundle, trips: Trips) -> None:
    registry = ModelService(stores, Scope(actor="user:ada"))
    held = registry.register("delay", bundle, run=new_id())
    with pytest.raises(Conflict, match="no MLflow folder"):
        rebuild_version(registry, held.ref, trips.rows)
