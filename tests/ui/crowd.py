"""A workspace with many runs, made fast: 2,000 in one transaction, a metric of 200,000 points with one spike, a sweep
with a pinned baseline, files of every kind that pages preview, and hostile words in all places that take words."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from tests.ui.story import BEGIN

from loopwright.core import new_id
from loopwright.track.batches import Batch, write_batches
from loopwright.track.columns import columns_of
from loopwright.track.deliveries import Delivery, deliver
from loopwright.track.media import png_bytes, wav_bytes
from loopwright.track.metrics import prepare
from loopwright.track.model import MetricPoint, RunInput, RunStatus
from loopwright.track.tables import runs
from loopwright.track.values import to_micros
from loopwright.workspace import Workspace

RUNS, POINTS, SPIKE = 2000, 200_000, 987.5
HOSTILE = "<script>window.pwned=1</script>\"'&{{7*7}}"
HOSTILE_MARKDOWN = """# Notes <script>window.pwned=1</script>

**bold** and <img src=x onerror=window.pwned=1>

[click](javascript:window.pwned=1) and ![picture](https://evil.example/x.png)

| a | b |
|---|---|
| 1 | <b>2</b> |
"""


@dataclass
class Crowd:
    """What the tests ask about: ids of runs."""

    long: str
    hostile: str
    running: str
    baseline: str
    sweep: list[str]


def gather(ws: Workspace) -> Crowd:
    """Fill an empty workspace."""
    ws.loops.advance_clock(BEGIN + timedelta(days=4))
    sweep = _sweep(ws)
    ws.runs.pin_baseline("sweep", sweep[10])
    return Crowd(_long(ws), _hostile(ws), _running(ws), sweep[10], sweep)


def _sweep(ws: Workspace) -> list[str]:
    """2,000 runs of two experiments, with what a search over learning rates would have logged."""
    random = np.random.default_rng(7)
    homes = {name: ws.experiments.create(name).id for name in ("probe", "sweep")}
    rows, batches = [], []
    for number in range(RUNS):
        rate, depth = float(10 ** random.uniform(-4, -1)), int(random.integers(2, 12))
        began = BEGIN + timedelta(minutes=number)
        auc = 0.9 - 0.05 * (np.log10(rate) + 2.5) ** 2 + 0.004 * depth + float(random.normal(0, 0.01))
        loss = [MetricPoint("loss", float(0.2 + 0.8 * 0.7**step + random.normal(0, 0.01)), step) for step in range(9)]
        points = [*loss, MetricPoint("auc", float(auc)), MetricPoint("seconds", float(depth * 1.5))]
        params = {"lr": f"{rate:.3g}", "depth": str(depth), "model": ("lightgbm", "xgboost")[number % 2]}
        params |= {"tried once": "long ago"} if number == 1 else {}
        rows.append(_row(homes["sweep" if number % 4 else "probe"], f"sweep-{number:04d}", began, depth))
        batches.append(Batch("default", rows[-1]["id"], prepare(points, to_micros(began)), params, {"team": "risk"}))
    with ws.stores.db.begin() as tx:
        tx.execute(runs.insert(), rows)
        assert not any(write_batches(ws.stores.db, tx, batches))
    return [row["id"] for number, row in enumerate(rows) if number % 4]


def _row(experiment: str, name: str, began: datetime, minutes: int) -> dict[str, Any]:
    words = {"project": "default", "kind": "run", "actor": "user:local", "parent": "", "error": "", "name": name}
    ended = began + timedelta(minutes=minutes)
    times = {"started_at": began, "ended_at": ended, "status": RunStatus.FINISHED.value}
    return {"id": new_id(), "experiment_id": experiment, **words, **times}


def _long(ws: Workspace) -> str:
    """A run with a metric of 200,000 points, one of which is a spike; with files, and samples of the machine."""
    run = ws.runs.start("long", name="long-training", params={"optimizer": "adam", "layers": "24"})
    random = np.random.default_rng(3)
    steps = np.arange(POINTS)
    values = 2.0 * np.exp(-steps / 40_000) + 0.4 + random.normal(0, 0.08, POINTS)
    values[123_456] = SPIKE / 250
    times = to_micros(BEGIN) + steps * 50_000
    few = np.arange(0, POINTS, 1000)
    points = {
        "train/loss": columns_of(steps, times, values),
        "val/accuracy": columns_of(few, times[few], 0.9 - 0.5 * np.exp(-few / 30_000)),
        "grad/norm": columns_of(few, times[few], np.exp(random.normal(0, 2, len(few)))),
        "system/cpu_percent": columns_of(few, times[few], random.uniform(40, 99, len(few))),
        "system/gpu_0_percent": columns_of(few, times[few], random.uniform(80, 100, len(few))),
    }
    with ws.stores.db.begin() as tx:
        deliver(ws.stores.db, tx, "default", Delivery("crowd", 0, 0, 1, {run.id: points}))
    for path, content in files().items():
        ws.runs.log_artifact(run.id, content, path)
    ws.runs.log_inputs(run.id, [RunInput("dataset:flights@3", "training")])
    ws.runs.finish(run.id)
    return run.id


def files() -> dict[str, bytes]:
    """A file of every kind that pages know how to show."""
    grid = np.linspace(0, 1, 120)
    picture = np.stack([np.outer(grid, grid), np.outer(1 - grid, grid), np.full((120, 120), 0.6)], axis=-1)
    table = pl.DataFrame({"epoch": range(300), "loss": np.linspace(1, 0.1, 300), "note": [HOSTILE] * 300})
    parquet = io.BytesIO()
    table.write_parquet(parquet)
    split = {"columns": ["input", "answer"], "data": [["1+1", "2"], [HOSTILE, "0"]]}
    sound = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) * np.linspace(1, 0, 8000)
    return {
        "images/confusion.png": png_bytes(picture),
        "images/vector.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="80" height="80">'
        b"<script>window.pwned=1</script>"
        b'<circle cx="40" cy="40" r="30" fill="teal"/></svg>',
        "tables/eval.csv": table.write_csv().encode(),
        "tables/eval.parquet": parquet.getvalue(),
        "tables/answers.json": json.dumps(split).encode(),
        "config/settings.json": b'{"lr": 0.1, "nested": {"a": [1, 2, 3]}}',
        "notes/readme.md": HOSTILE_MARKDOWN.encode(),
        "notes/log.txt": b"epoch 1\nepoch 2 <script>window.pwned=1</script>\n",
        "audio/tone.wav": wav_bytes(sound, 8000),
        "page.html": b"<script>window.pwned=1</script>",
        "weights.bin": bytes(range(256)) * 8,
    }


def _hostile(ws: Workspace) -> str:
    """A run in which everything that takes a word has a hostile one."""
    ws.runs.start(HOSTILE, name="elsewhere")
    run = ws.runs.start("long", name=HOSTILE, params={HOSTILE: HOSTILE, "a": "x" * 3000}, tags={HOSTILE: HOSTILE})
    ws.runs.log_points(run.id, [MetricPoint(HOSTILE, float(step % 7), step) for step in range(50)])
    ws.runs.log_artifact(run.id, b"<script>window.pwned=1</script>", "page 'x' &amp; {{y}}.html")
    trace = f'Traceback (most recent call last):\n  File "train.py", line 3\nValueError: {HOSTILE}\n'
    ws.runs.log_artifact(run.id, trace.encode(), "error/traceback.txt")
    ws.runs.finish(run.id, RunStatus.FAILED, f"ValueError: {HOSTILE}")
    return run.id


def _running(ws: Workspace) -> str:
    run = ws.runs.start("long", name="still-running", params={"optimizer": "sgd"})
    ws.runs.log_points(run.id, [MetricPoint("loss", 1 / (1 + step), step) for step in range(20)])
    return run.id
