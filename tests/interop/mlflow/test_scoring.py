"""MLflow's scoring client, unmodified, asks the inference process as it asks a model server of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tests.models.conftest import bundle, fitted, trips
from tests.serve.conftest import Served
from tests.serve.fronts.conftest import rows, wanted

from loopwright.models import Bundle
from loopwright.serve import ServedEndpoint, Variant

__all__ = ["bundle", "fitted", "rows", "trips", "wanted"]


@pytest.fixture
def scoring(bundle: Bundle, tmp_path: Path) -> Iterator[ScoringServerClient]:
    """A client of a process that serves one model."""
    served = Served(tmp_path)
    served.publish(ServedEndpoint("trips", "salt", (Variant("champion", "model:trips@7", served.put(bundle)),)))
    with served.start(stderr=subprocess.DEVNULL) as process:
        yield ScoringServerClient("127.0.0.1", int(process.url.rpartition(":")[2]))


def test_a_frame_is_answered_as_the_original_model_does(
    scoring: ScoringServerClient, rows: pl.DataFrame, wanted: Any
) -> None:
    scoring.wait_server_ready(timeout=10, scoring_server_proc=None)
    answer = scoring.invoke(rows.to_pandas()).get_predictions()
    np.testing.assert_allclose(answer["probability"].to_numpy(), wanted, atol=1e-5)


def test_a_list_of_rows_is_sent_as_inputs(scoring: ScoringServerClient, rows: pl.DataFrame, wanted: Any) -> None:
    answer = scoring.invoke([list(row) for row in rows.rows()]).get_predictions()
    np.testing.assert_allclose(answer["probability"].to_numpy(), wanted, atol=1e-5)


def test_the_version_and_a_refusal_reach_the_caller(scoring: ScoringServerClient) -> None:
    import loopwright

    assert scoring.get_version() == loopwright.__version__
    with pytest.raises(Exception, match="row 0 has 1 values; the model takes 6"):
        scoring.invoke([[1.0]])
