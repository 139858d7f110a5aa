"""A collection takes nothing from a workspace whose rooms are all in use."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.conftest import Trips, bundle, fitted, trips

import loopwright
from loopwright.core import NotFound
from loopwright.models import Bundle
from loopwright.store import fsck
from loopwright.workspace import Workspace

__all__ = ["bundle", "fitted", "trips"]

FLOW = """
from pathlib import Path

import polars as pl
from loopwright import context, pipeline, step

@step
def table(x: int) -> pl.DataFrame:
    context().log_artifact(b"said by a step", "note.txt")
    print("heard")
    return pl.DataFrame({"x": [x, x + 1]})

@step
def several(frame: pl.DataFrame) -> dict:
    return {"frame": frame, "list": [frame, 1], "text": "x" * 5000}

@pipeline
def main(x: int = 1):
    return several(table(x))
"""


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "flow.py").write_text(textwrap.dedent(FLOW), encoding="utf-8")
    with loopwright.connect(str(root)) as found:
        assert isinstance(found, Workspace)
        yield found


def age(ws: Workspace) -> set[str]:
    """Let every object look old; returns their digests."""
    then = time.time() - 7200
    digests = {stat.digest for stat in ws.stores.objects.iterate()}
    for digest in digests:
        os.utime(ws.stores.data / "objects" / digest[:2] / digest[2:], (then, then))
    return digests


@pytest.mark.slow
def test_a_collection_takes_nothing_from_what_lives(
    ws: Workspace, bundle: Bundle, trips: Trips, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "small.txt").write_text("small")
    (folder / "large.bin").write_bytes(os.urandom(200_000))
    ws.datasets.ingest("files", folder)
    ws.datasets.ingest("trips", trips.rows)
    ws.datasets.profile("dataset:trips@1")
    run = ws.pipelines.run("flow:main", {"x": 3}).run_id
    ws.models.register("delay", bundle, run=run)
    before = age(ws)
    found = ws.storage.gc(older_than_days=0, grace_s=0)
    assert [portion for portion in found.portions if portion.goes] == []
    assert {stat.digest for stat in ws.stores.objects.iterate()} == before
    assert fsck(ws.stores).problems == ()

    ws.runs.delete(run)
    age(ws)
    kept = ws.storage.gc(older_than_days=0, grace_s=0)
    assert [item.ref for item in kept.kept] == [f"run:{run}"], "a model version came from it"
    ws.runs.restore(run)
    assert ws.pipelines.load(run)["text"] == "x" * 5000
    assert ws.pipelines.reproduce(run).verdict == "identical"
    assert ws.runs.artifact(run, "note.txt") == b"said by a step"
    assert ws.models.bundle("model:delay").profile() is not None
    assert fsck(ws.stores).problems == ()


@pytest.mark.slow
def test_a_pipelines_run_goes_with_its_steps_and_cache(ws: Workspace) -> None:
    kept, doomed = (ws.pipelines.run("flow:main", {"x": x}).run_id for x in (1, 2))
    ws.runs.delete(doomed)
    age(ws)
    found = ws.storage.gc(older_than_days=0, grace_s=0)
    assert found.runs == 1
    assert [portion.reason for portion in found.portions if portion.goes] == [
        "code, environment, inputs and outputs of pipeline runs"
    ]
    with pytest.raises(NotFound):
        ws.pipelines.get(doomed)
    assert ws.pipelines.load(kept)["list"][1] == 1
    again = ws.pipelines.run("flow:main", {"x": 2})
    assert not any(step.cached for step in again.steps), "what was kept for use again went, too"
    assert ws.pipelines.load(again.run_id)["text"] == "x" * 5000
    assert fsck(ws.stores).problems == ()
