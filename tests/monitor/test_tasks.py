"""Regressions and several classes: losses that can be compared between versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.monitor.conftest import DAY, START

from loopwright.core import ManualClock, Scope, new_id
from loopwright.models import ModelService, build_bundle
from loopwright.monitor import Feedback, Monitor, MonitorService, Verdict
from loopwright.serve import PredictionLog, Record
from loopwright.stats import losses
from loopwright.store import Stores

ROWS = 400


@pytest.fixture
def stores(make_sqlite_stores: Any, tmp_path: Path) -> Stores:
    made: Stores = make_sqlite_stores(tmp_path, clock=ManualClock(START + 2 * DAY))
    return made


def service(stores: Stores) -> MonitorService:
    return MonitorService(stores, Scope(), models=ModelService(stores, Scope()))


def answer(stores: Stores, model: str, x: Sequence[float], outputs: Sequence[dict[str, Any]]) -> list[str]:
    """Log one answer for each row; their ids."""
    log = PredictionLog(stores.data / "journal" / "predictions")
    key, at = log.columns_key(["x", "z"]), int(START.timestamp() * 1_000_000)
    records = [
        Record(new_id(), "e", "v", model, at + place, at, "", key, [float(value), 0.5], given, 900)
        for place, (value, given) in enumerate(zip(x, outputs, strict=True))
    ]
    log.append(records)
    log.close()
    return [record.id for record in records]


def label(stores: Stores, ids: Sequence[str], values: Sequence[Any]) -> None:
    service(stores).feedback("e", [Feedback(one, value) for one, value in zip(ids, values, strict=True)])


def register(stores: Stores, model: Any, rows: pl.DataFrame) -> str:
    bundle = build_bundle(model, rows, metrics={"mae": 0.5, "brier": 0.1})
    return ModelService(stores, Scope()).register("m", bundle, run=new_id()).ref


def test_a_regressions_losses_share_one_scale_across_versions(stores: Stores) -> None:
    from sklearn.linear_model import LinearRegression

    random = np.random.default_rng(0)
    rows = pl.DataFrame({"x": random.uniform(0, 10, 300), "z": random.random(300)})
    narrow = register(stores, LinearRegression().fit(rows.to_numpy(), rows["x"].to_numpy()), rows)
    wide = register(stores, LinearRegression().fit(rows.to_numpy(), 50 * rows["x"].to_numpy()), rows)
    service(stores).apply(Monitor(name="w", endpoint="e"))
    x = random.uniform(0, 10, ROWS)
    guess = x + random.normal(0, 1, ROWS)
    for model in (narrow, wide):
        label(stores, answer(stores, model, x, [{"value": float(value)} for value in guess]), x.tolist())
        service(stores).advance()

    first, second = service(stores).evidence("e", START, [narrow, wide])
    [report] = service(stores).windows("e")

    assert first.losses.mean == pytest.approx(second.losses.mean)
    assert first.losses.mean == pytest.approx(losses("regression", x, guess, scale=10.0).mean(), rel=0.05)
    assert report.metric == "mae"
    assert report.performance["mae"].value == pytest.approx(np.abs(guess - x).mean())
    assert report.performance_verdict is Verdict.BAD


def test_several_classes_are_scored_by_their_names(stores: Stores) -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(1)
    rows = pl.DataFrame({"x": random.normal(size=300), "z": random.normal(size=300)})
    names = np.array(["high", "low", "mid"])
    truth = np.where(rows["x"] > 0.5, "high", np.where(rows["x"] < -0.5, "low", "mid"))
    model = register(stores, LogisticRegression().fit(rows.to_numpy(), truth), rows)
    service(stores).apply(Monitor(name="w", endpoint="e"))
    chances = random.dirichlet([1, 1, 1], ROWS)
    y = random.integers(0, 3, ROWS)
    outputs = [{"label": str(names[row.argmax()]), "probabilities": row.tolist()} for row in chances]
    label(stores, answer(stores, model, random.normal(size=ROWS).tolist(), outputs), names[y].tolist())

    [report] = service(stores).advance()
    [evidence] = service(stores).evidence("e", START, [model])

    expected = losses("multiclass", y, chances)
    assert evidence.losses.mean == pytest.approx(expected.mean())
    assert report.performance["brier"].value == pytest.approx(expected.mean())
    assert report.performance["accuracy"].value == pytest.approx((chances.argmax(axis=1) == y).mean())
