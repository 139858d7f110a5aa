"""Small real models and the rows that they were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from loopwright.models import Bundle, build_bundle


@dataclass(frozen=True)
class Trips:
    """Rows with numbers, missing numbers, whole numbers, truth values and strings; `value` is named like an output."""

    rows: pl.DataFrame
    late: np.ndarray[Any, Any]

    @property
    def numbers(self) -> pl.DataFrame:
        return self.rows.select("distance", "wind", "hour", "holiday", "value")


def make_trips(count: int = 1500, seed: int = 7) -> Trips:
    rng = np.random.default_rng(seed)
    rows = pl.DataFrame(
        {
            "distance": rng.normal(700, 300, count),
            "wind": np.where(rng.random(count) < 0.15, np.nan, rng.gamma(2, 5, count)),
            "hour": rng.integers(0, 24, count),
            "carrier": rng.choice(["AA", "UA", "B6", "DL"], count, p=[0.4, 0.3, 0.2, 0.1]),
            "holiday": rng.random(count) < 0.1,
            "value": rng.normal(size=count),
        }
    ).with_columns(pl.col("wind").fill_nan(None))
    score = (rows["hour"].to_numpy() - 12) / 6 + (rows["carrier"] == "B6").to_numpy() + rows["value"].to_numpy()
    return Trips(rows, (score + rng.normal(size=count) > 0.5).astype(np.int64))


def mixed_pipeline(model: Any) -> Any:
    """A pipeline that picks columns by name: scaled, passed through, and encoded from strings."""
    return make_pipeline(
        ColumnTransformer(
            [
                ("scaled", StandardScaler(), ["distance", "wind"]),
                ("as they are", "passthrough", ["hour", "holiday", "value"]),
                ("words", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["carrier"]),
            ]
        ),
        model,
    )


def small_lightgbm(**settings: Any) -> LGBMClassifier:
    return LGBMClassifier(n_estimators=20, num_leaves=15, verbose=-1, n_jobs=1, **settings)


@pytest.fixture(scope="session")
def trips() -> Trips:
    return make_trips()


@pytest.fixture(scope="session")
def fitted(trips: Trips) -> Any:
    return mixed_pipeline(small_lightgbm()).fit(trips.rows, trips.late)


@pytest.fixture(scope="session")
def bundle(fitted: Any, trips: Trips, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A LightGBM classifier inside a scikit-learn pipeline, as a bundle."""
    folder: Path = tmp_path_factory.mktemp("bundles") / "trips"
    return build_bundle(
        fitted,
        trips.rows,
        target="late",
        metrics={"auc": 0.8},
        training_data=["dataset:trips@1"],
        folder=folder,
    )
