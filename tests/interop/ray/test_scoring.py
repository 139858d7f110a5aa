"""Batch scoring answered by Ray: the same bytes as here, also when workers are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
from lightgbm import LGBMRegressor
from tests.interop.ray.cluster import running_cluster

import loopwright as lw
from loopwright.models import Bundle, build_bundle
from loopwright.serve.batch import ScoringOptions, open_rows, score, scorer_of

ROWS, PART = 30_000, 1_000
CLUSTER = """
import json, sys
from pathlib import Path
from loopwright.core import Invalid
from loopwright.models import Bundle
from loopwright.serve.batch import ScoringOptions, open_rows, score, scorer_of
from loopwright.serve.batch.ray_lanes import lanes_on

compute, folder, rows, holed, output, part = sys.argv[1:]
bundle, options = Bundle(Path(folder)), ScoringOptions(part_rows=int(part), workers=2)

def scored(source, target):
    return score(scorer_of(bundle, 1), open_rows(Path(source), bundle.signature), Path(target), options,
                 model="m", digest="d", lanes=lanes)

with lanes_on(compute, bundle, options) as lanes:
    told = {"rows": scored(rows, output).rows}
    try:
        scored(holed, output + "-none")
    except Invalid as error:
        told["refused"] = error.message
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model of a hundred trees, whose sums of floats would show another order of adding."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4_000, 4)).astype(np.float32)
    model = LGBMRegressor(n_estimators=100, verbose=-1).fit(inputs, inputs[:, 0] ** 2 + inputs[:, 1])
    frame = pl.DataFrame(inputs, schema=["a", "b", "c", "d"])
    return build_bundle(model, frame, folder=tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(rng.normal(size=(ROWS, 4)).astype(np.float32), schema=["a", "b", "c", "d"])
    path = tmp_path_factory.mktemp("rows") / "in.parquet"
    frame.with_row_index("id").write_parquet(path)
    return path


@pytest.fixture(scope="module")
def expected(bundle: Bundle, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of answers that are made without Ray."""
    output = tmp_path_factory.mktemp("here") / "answers"
    options = ScoringOptions(part_rows=PART)
    score(scorer_of(bundle, 2), open_rows(rows, bundle.signature), output, options, model="m", digest="d")
    return contents(output)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_workspace_that_computes_on_ray_gives_the_same_bytes(
    bundle: Bundle, rows: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "loopwright.toml").write_text('compute = "ray"\n')
    with lw.connect(tmp_path) as ws:
        ws.models.register("m", bundle)
        options = ScoringOptions(part_rows=PART, workers=2)
        report = ws.scoring.predict("model:m", rows, tmp_path / "answers", options)
        assert (report.rows, ws.runs.get(report.run).metrics["rows"]) == (ROWS, ROWS)
    assert contents(tmp_path / "answers") == expected


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.mark.parametrize("way", ["address", "client"])
def test_a_cluster_gives_the_same_bytes_though_a_worker_is_killed(
    cluster: object, bundle: Bundle, rows: Path, expected: dict[str, bytes], tmp_path: Path, way: str
) -> None:
    output, holed = tmp_path / "answers", tmp_path / "holed.parquet"
    empty = pl.when(pl.col("id") == 1_700).then(None).otherwise("a")
    pl.read_parquet(rows).with_columns(a=empty).write_parquet(holed)
    command = [
        sys.executable,
        "-c",
        CLUSTER,
        getattr(cluster, way),
        str(bundle.folder),
        str(rows),
        str(holed),
        str(output),
    ]
    environ = cluster.environ  # type: ignore[attr-defined]
    killed: list[int] = []
    stop = threading.Event()
    killer = threading.Thread(target=kill_once, args=(output, killed, stop))
    killer.start()
    try:
        done = subprocess.run(
            [*command, str(PART)], env=environ, capture_output=True, text=True, check=False, cwd=tmp_path
        )
    finally:
        stop.set()
        killer.join()
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["rows"] == ROWS
    assert "row 1,700 has no value in column 'a'" in told["refused"]
    assert len(killed) == 1
    assert contents(output) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers", "holed.parquet"]


def kill_once(output: Path, killed: list[int], stop: threading.Event) -> None:
    """Kill a process that scores, once a few parts are written and most are not."""
    folder = output.with_name(f".{output.name}.scoring")
    while not stop.is_set():
        if len(list(folder.glob("part-*.parquet"))) >= 3:
            for pid in scorers():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.002)


def scorers() -> list[int]:
    """The processes of actors that score; Ray names them so."""
    found: Callable[[psutil.Process], str] = lambda process: " ".join(process.info["cmdline"] or ())  # noqa: E731
    return [process.pid for process in psutil.process_iter(["cmdline"]) if "ray::RayScorer" in found(process)]
