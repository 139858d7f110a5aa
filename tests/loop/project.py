"""The project that the loops of these tests train: it is copied into a workspace's folder as `training.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from loopwright.models import build_bundle
from loopwright.pipeline import context, pipeline, step


def make_rows(count: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    """Rows with two inputs that matter and a truth; with a shift the first one turns around."""
    rng = np.random.default_rng(seed)
    wind, traffic = rng.normal(size=count) + shift, rng.normal(size=count)
    slope = -1.5 if shift else 1.5
    chance = 1 / (1 + np.exp(-(slope * (wind - shift) + 1.0 * traffic - 0.5)))
    late = (rng.random(count) < chance).astype(np.int64)
    return pl.DataFrame({"wind": wind, "traffic": traffic, "late": late})


def fitted(rows: pl.DataFrame, damage: str = "") -> Any:
    """A bundle of a model that fits these rows, or one whose first input has the wrong sign."""
    inputs = rows.select("wind", "traffic").to_pandas()
    if damage == "broken":
        inputs["wind"] = -inputs["wind"]
    model = LogisticRegression().fit(inputs, rows["late"].to_numpy())
    held_out = make_rows(2000, seed=5)
    chance = model.predict_proba(held_out.select("wind", "traffic").to_pandas())[:, 1]
    brier = float(np.mean((held_out["late"].to_numpy() - chance) ** 2))
    sample = rows.select("wind", "traffic")
    return build_bundle(model, sample, task="binary", target="late", profile=sample, metrics={"brier": brier})


@step(cache=False)
def train(shift: float, until: str, fail: bool) -> dict[str, str]:
    """Fit a model, keep a hold-out, register the version."""
    if fail:
        raise ValueError(f"no rows until {until}")
    ws = context().ws
    holdout = ws.datasets.ingest("holdout", make_rows(1500, seed=9, shift=shift))
    version = ws.models.register(
        "delay", fitted(make_rows(3000, seed=4, shift=shift)), run=context().run_id, tags={"until": until}
    )
    return {"model": version.ref, "holdout": holdout.ref}


@step
def pick(made: dict[str, str], name: str) -> str:
    """One of the two."""
    return made[name]


@pipeline
def retrain(shift: float = 0.0, until: str = "", fail: bool = False) -> dict[str, Any]:
    """Train on what is known until then."""
    made = train(shift, until, fail)
    return {"model": pick(made, "model"), "holdout": pick(made, "holdout")}
