"""The flights project up to its first version, smaller than the demo's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from loopwright.demos.flights import source
from loopwright.workspace import Workspace


def first_version(ws: Workspace, sources: source.Sources, features: Any, now: datetime) -> str:
    """What is known by `now` is ingested, and a model of forty trees is made of it; its ref."""
    ws.datasets.ingest("flights", sources.flights.filter(pl.col("known_at") <= now))
    ws.datasets.ingest("weather", sources.weather.filter(pl.col("observed_at") < now))
    ws.features.apply(*features.DEFINITIONS)
    made = ws.pipelines.run("delay:train", {"until": now.isoformat(), "trees": 40})
    return str(made.outputs["model"])
