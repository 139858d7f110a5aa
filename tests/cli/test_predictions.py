"""`loopwright predictions`: what was logged by several processes, asked by its id, by page and in SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from tests.serve.conftest import adding_bundle

from loopwright.cli import main
from loopwright.serve import InferenceClient, ProcessSettings, WorkerPlan, Workers
from loopwright.workspace import open_workspace

pytestmark = [pytest.mark.slow, pytest.mark.fault]


@pytest.fixture
def ids(tmp_path: Path) -> list[str]:
    """Ids of 200 predictions of an endpoint, answered by two workers, and the log of both."""
    with open_workspace(tmp_path) as ws:
        version = ws.models.register("adding", adding_bundle(1.0, tmp_path / "bundle"))
        ws.endpoints.create("sums", version.ref)
        data = ws.location.data
        settings = ProcessSettings(
            state=data / "serving" / "state.json",
            objects=str(data / "objects"),
            journal=data / "journal" / "predictions",
            cache=data / "cache" / "bundles",
        )
        with Workers(WorkerPlan(settings, 2)) as workers:
            assert workers.wait_ready(60)
            clients = [InferenceClient(workers.url) for _ in range(4)]
            given = [client.infer_many("sums", {"x": [float(n) for n in range(50)]}) for client in clients]
            for client in clients:
                client.close()
        assert len(list((data / "journal" / "predictions").glob("*.journal"))) == 2
        return [identifier for answer in given for identifier in answer.prediction_ids]


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["predictions", *arguments, "--json"]) == 0
    out = capsys.readouterr().out
    return [json.loads(line) for line in out.splitlines()]


def test_predictions_of_all_workers_are_listed_shown_and_queried(
    ids: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("-w", str(tmp_path))
    assert main(["predictions", "locate", "sums", *where]) == 3
    assert ask(capsys, "flush", *where) == [{"rows": 200}]
    listed = ask(capsys, "list", "sums", "--limit", "1000", *where)
    rows = listed[0] if isinstance(listed[0], list) else listed
    assert {row["id"] for row in rows} == set(ids)
    assert ask(capsys, "show", ids[7], *where)[0]["id"] == ids[7]
    sql = "SELECT model, count(*) AS n, sum(output_value - input_x) AS added FROM predictions GROUP BY model"
    assert ask(capsys, "query", "sums", sql, *where) == [{"model": "model:adding@1", "n": 200, "added": 200.0}]
    (place,) = ask(capsys, "locate", "sums", *where)
    assert (place["table"], place["rows"]) == ("predictions", 200)
    assert DeltaTable(place["location"]).version() >= 0
    assert pl.read_delta(place["location"])["id"].n_unique() == 200
    # What is in the tables is not kept twice: the disk that journals take is bounded.
    assert list((tmp_path / ".loopwright" / "journal" / "predictions").glob("*.journal")) == []


def test_a_query_writes_a_file_and_a_bad_one_names_the_columns(
    ids: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("-w", str(tmp_path))
    file = tmp_path / "out.parquet"
    assert main(["predictions", "query", "sums", "SELECT id FROM predictions", "-o", str(file), *where]) == 0
    assert set(pl.read_parquet(file)["id"]) == set(ids)
    assert main(["predictions", "query", "sums", "SELECT nonsense FROM predictions", *where]) == 2
    assert "input_x" in capsys.readouterr().err
    for sql, told in (
        ("/* so */ DROP TABLE predictions", "only queries"),
        ("DELETE FROM predictions", "only queries"),
        ("SELECT CAST(model AS BIGINT) AS n FROM predictions", "cannot be answered"),
    ):
        assert main(["predictions", "query", "sums", sql, *where]) == 2
        assert told in capsys.readouterr().err
    assert ask(capsys, "query", "sums", "/* all */ (SELECT count(*) AS n FROM predictions)", *where) == [{"n": 200}]
