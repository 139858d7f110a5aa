"""One inference process with two endpoints, asked over every protocol."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tests.models.conftest import Trips, bundle, fitted, trips
from tests.serve.conftest import Served, adding_bundle

from loopwright.models import Bundle
from loopwright.serve import InferenceProcess, ServedEndpoint, Variant
from loopwright.serve.arguments import ProcessSettings

__all__ = ["bundle", "fitted", "trips"]


@pytest.fixture(scope="session")
def process(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceProcess]:
    """Serves `trips`, a classifier, and `plus`: version 1 adds 1 to `x`; version 2, a shadow, adds 2."""
    folder = tmp_path_factory.mktemp("fronts")
    files = Served(folder)
    one, two = (files.put(adding_bundle(float(n), folder / f"plus{n}")) for n in (1, 2))
    champion, candidate = (
        Variant("champion", "model:plus@1", one),
        Variant("candidate", "model:plus@2", two, shadow=True),
    )
    files.publish(
        ServedEndpoint("trips", "salt", (Variant("champion", "model:trips@7", files.put(bundle)),)),
        ServedEndpoint("plus", "salt", (champion, candidate)),
    )
    settings = ProcessSettings(
        state=files.state,
        objects=str(folder / "objects"),
        journal=files.journal,
        cache=folder / "cache",
        grpc_port=0 if find_spec("hpack") else None,  # some outside systems are proved without it
    )
    running = InferenceProcess.launch(settings, stderr=subprocess.DEVNULL)
    yield running
    running.stop(timeout_s=5)


@pytest.fixture(scope="session")
def web(process: InferenceProcess) -> Iterator[httpx.Client]:
    """An HTTP client of the process."""
    with httpx.Client(base_url=process.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def rows(trips: Trips) -> pl.DataFrame:
    """Rows of all types; some lack their wind."""
    chosen = trips.rows.head(40)
    assert chosen["wind"].null_count() > 0
    return chosen


@pytest.fixture(scope="session")
def wanted(fitted: Any, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
    """The original model's probability for each of the rows."""
    return np.asarray(fitted.predict_proba(rows)[:, 1])


def probabilities(predictions: list[dict[str, Any]]) -> list[float]:
    """The probability in each record of an answer."""
    return [item["probability"] for item in predictions]
