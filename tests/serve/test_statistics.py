"""What is told of the runs of a version: the pieces of its requests' time, which make up the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.serve.conftest import Plane, adding_bundle, failing_bundle

from loopwright.models import ModelFailed
from loopwright.serve import Variant
from loopwright.serve.describing import statistics_of
from loopwright.serve.query import Query
from loopwright.serve.statistics import Ran, RunStatistics

CHAMPION = Variant("champion", "model:m@3", "0" * 64)


def test_requests_runs_and_their_times_add_up(make_plane: Callable[..., Plane], tmp_path: Path) -> None:
    made = make_plane()
    endpoint = made.serve((CHAMPION, failing_bundle(tmp_path / "failing")))

    async def ask() -> list[object]:
        told: list[asyncio.Future[object]] = []
        for values in ([0], [1, 2], [7], [2]):
            told.append(asyncio.get_running_loop().create_future())
            rows = endpoint.intake.rows([("x", values)])
            made.plane.submit(Query("e", rows, told[-1].set_result), endpoint)
        return list(await asyncio.gather(*told))

    answers = asyncio.run(ask())
    assert [isinstance(answer, ModelFailed) for answer in answers] == [False, False, True, False]
    [told] = statistics_of(endpoint, made.metrics.version_runs())
    assert (told["version"], told["inference_count"], told["execution_count"]) == ("3", 4, 2)  # [0, 1, 2] and [2]
    stats = told["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 1)
    assert 0 < stats["fail"]["ns"] < 30e9
    pieces = ["queue", "compute_input", "compute_infer", "compute_output"]
    assert all(stats[piece]["count"] == 3 and stats[piece]["ns"] > 0 for piece in pieces)
    assert sum(stats[piece]["ns"] for piece in pieces) == stats["success"]["ns"]
    assert [(item["batch_size"], item["compute_infer"]["count"]) for item in told["batch_stats"]] == [(1, 1), (3, 1)]
    assert told["last_inference"] > 1_600_000_000_000


def test_many_sizes_of_runs_are_told_in_few_lines() -> None:
    stats = RunStatistics()
    for rows in range(1, 5_000):
        stats.ran(Ran("e", "1", 1, rows, 0, 1, 2, 3))
    stats.answered()
    told = stats.versions["e", "1"].told()["batch_stats"]
    assert [item["batch_size"] for item in told] == [*range(1, 65), 128, 256, 512, 1024, 2048, 4096, 8192]
    assert sum(item["compute_infer"]["count"] for item in told) == 4_999


def test_a_version_that_answered_nothing_has_zeros(make_plane: Callable[..., Plane], tmp_path: Path) -> None:
    made = make_plane()
    [told] = statistics_of(made.serve((CHAMPION, adding_bundle(1.0, tmp_path / "plus"))), made.metrics.version_runs())
    assert (told["execution_count"], told["inference_stats"]["success"], told["batch_stats"]) == (
        0,
        {"count": 0, "ns": 0},
        [],
    )
