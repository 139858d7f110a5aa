"""A workspace with a real model version, and a journal of predictions to watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core import ManualClock, Scope, new_id
from loopwright.models import Bundle, ModelService, build_bundle
from loopwright.monitor import Feedback, MonitorService
from loopwright.serve import PredictionLog, PredictionStatus, Record
from loopwright.stats import TableSketch
from loopwright.store import Stores

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
COLUMNS = ("load", "age", "site")
SITES = ("north", "south", "east")


def frame(random: np.random.Generator, rows: int) -> pl.DataFrame:
    """Rows as training saw them."""
    return pl.DataFrame(
        {
            "load": random.normal(10.0, 2.0, rows),
            "age": random.integers(0, 24, rows).astype(float),
            "site": random.choice(SITES, rows).tolist(),
        }
    )


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A fitted classifier as a bundle whose profile covers 20,000 rows."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    rows = frame(random, 2_000)
    truth = (rows["load"].to_numpy() + random.normal(0, 2, rows.height) > 11).astype(int)
    encoder = make_column_transformer((OneHotEncoder(), ["site"]), remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression(max_iter=500)).fit(rows.to_pandas(), truth)
    profile = TableSketch()
    profile.fold({name: column.to_numpy() for name, column in frame(random, 20_000).to_dict(as_series=True).items()})
    return build_bundle(model, rows, profile=profile, folder=tmp_path_factory.mktemp("bundle") / "b")


class World:
    """Stores, a model of two versions, and what callers and the truth do."""

    def __init__(self, stores: Stores, bundle: Bundle) -> None:
        self.stores, self.random = stores, np.random.default_rng(1)
        self.models = ModelService(stores, Scope())
        metrics = {"brier": 0.12, "auc": 0.9}
        self.model = self.models.register("delay", bundle, metrics=metrics).ref
        self.second = self.models.register("delay", bundle, metrics=metrics, run=new_id()).ref
        self.log = PredictionLog(stores.data / "journal" / "predictions")

    @property
    def monitors(self) -> MonitorService:
        """A service as it is made for each request."""
        return MonitorService(self.stores, Scope(), models=self.models)

    def predict(
        self,
        day: datetime,
        rows: int,
        *,
        model: str = "",
        shift: float = 0.0,
        failed: int = 0,
        chances: Sequence[float] | None = None,
        endpoint: str = "delay",
        shadow_of: str = "",
    ) -> list[str]:
        """Log predictions spread over a day; their ids."""
        data = frame(self.random, rows)
        key = self.log.columns_key(COLUMNS)
        probabilities = np.full(rows, 0.3) if chances is None else chances
        records = [
            Record(
                id=new_id(),
                endpoint=endpoint,
                variant="champion",
                model=model or self.model,
                event_time=int((day + DAY * place / rows).timestamp() * 1_000_000),
                received_at=int(day.timestamp() * 1_000_000),
                key=f"k{place}",
                columns=key,
                features=[load + shift, age, site],
                outputs={} if place < failed else {"label": int(chance > 0.5), "probability": float(chance)},
                latency_us=1000,
                status=PredictionStatus.ERROR if place < failed else PredictionStatus.OK,
                shadow_of=shadow_of,
            )
            for place, ((load, age, site), chance) in enumerate(zip(data.rows(), probabilities, strict=True))
        ]
        self.log.append(records)
        return [record.id for record in records]

    def label(self, ids: Sequence[str], values: Sequence[Any], endpoint: str = "delay") -> None:
        """Send the truth."""
        self.monitors.feedback(endpoint, [Feedback(one, value) for one, value in zip(ids, values, strict=True)])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def world(make_sqlite_stores: Callable[..., Stores], tmp_path: Path, clock: ManualClock, bundle: Bundle) -> World:
    return World(make_sqlite_stores(tmp_path, clock=clock), bundle)
