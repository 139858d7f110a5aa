"""Bundles to export: a small network, whose weights can shrink, and trees, whose numbers cannot."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.models.conftest import bundle, fitted, trips

from loopwright.models import Bundle, build_bundle

__all__ = ["bundle", "fitted", "trips"]


@dataclass(frozen=True)
class Network:
    """A fitted network as a bundle, its rows, and their truth."""

    bundle: Bundle
    rows: pl.DataFrame
    truth: np.ndarray[Any, Any]


def made(model: Any, folder: Path, number_target: bool) -> Network:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 8))
    score = values[:, 0] * values[:, 1] + values[:, 2]
    truth = score if number_target else (score > 0).astype(np.int64)
    rows = pl.DataFrame(values, schema=[f"f{number}" for number in range(8)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        fitted = make_pipeline(StandardScaler(), model).fit(values, truth)
    return Network(build_bundle(fitted, rows[:200], folder=folder), rows, truth)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    model = MLPClassifier((128, 64), max_iter=40, random_state=0)
    return made(model, tmp_path_factory.mktemp("bundles") / "network", number_target=False)


@pytest.fixture(scope="session")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Network:
    model = MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=60, random_state=0)
    return made(model, tmp_path_factory.mktemp("bundles") / "regressor", number_target=True)
