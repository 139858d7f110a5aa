"""What it costs that the inference process finds features by key, and how fast it takes feedback. Needs wrk.

    python bench/lookups.py [--seconds 5] [--online redis://127.0.0.1:6379/0] [--json]

One model takes six features of two views and two of a request view. It is asked with its inputs, and by two keys: the
answers are compared bit by bit before anything is timed. The server has one core and wrk another; `per_cpu_s` is
requests per second of the processor time that the server used: a busy machine blurs it less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import polars as pl
from serving import cpu_s, wrk

import loopwright as lw
from loopwright.features import RequestView
from loopwright.serve import InferenceProcess, ProcessSettings, ServedEndpoint, ServingState, Variant, write_state
from loopwright.store import online_place_of, open_objects, put_tree
from loopwright.workspace import Workspace, open_workspace

ENTITIES, ROWS = 10_000, 2_000
FEATURES = ("a", "b", "c")
INPUTS = ("amount", *(f"{view}__{name}" for view in ("buyer", "shop") for name in FEATURES), "ratio", "is_large")


def model_in(ws: Workspace, folder: Path) -> tuple[Path, pl.DataFrame, pl.DataFrame]:
    """The bundle's folder, the requests, and the same with features as the point-in-time join gives them."""
    rng, now = np.random.default_rng(0), datetime.now(UTC)
    views = []
    for entity in ("buyer", "shop"):
        ids = [f"{entity}{number}" for number in range(ENTITIES)]
        values = {name: rng.normal(size=ENTITIES) for name in FEATURES}
        ws.datasets.ingest(entity, pl.DataFrame({"id": ids, "at": [now - timedelta(hours=1)] * ENTITIES, **values}))
        expressions = {name: pl.col(name) for name in FEATURES}
        key = lw.FeatureView(entity, lw.Entity(entity), entity, "at", expressions, transform=_NAMED[entity])
        views.append(key)
    asked = RequestView("asked", {"ratio": pl.col("amount") / (pl.col("buyer__a") + 9), "is_large": "amount > 0.5"})
    ws.features.apply(*views, asked, lw.FeatureService("all", [*views, asked]))
    ws.features.materialise_all()
    spine = pl.DataFrame(
        {
            "buyer": [f"buyer{number}" for number in rng.integers(0, ENTITIES, ROWS)],
            "shop": [f"shop{number}" for number in rng.integers(0, ENTITIES, ROWS)],
            "amount": rng.random(ROWS),
            "event_timestamp": [now] * ROWS,
        }
    )
    joined = ws.features.historical(spine, ["buyer", "shop"], full_names=True)
    lookups = [
        ws.features.lookup(spine, ["buyer", "shop"], full_names=True),
        ws.features.lookup(joined, ["asked"]),
    ]
    inputs = (
        ws.features.historical(joined, ["asked"]).collect().select(pl.col(name).cast(pl.Float32) for name in INPUTS)
    )
    model = lightgbm.LGBMRegressor(n_estimators=100, num_leaves=15, verbose=-1, n_jobs=1)
    model.fit(inputs.to_numpy(), inputs["buyer__a"].to_numpy() * inputs["amount"].to_numpy())
    made = lw.build_bundle(model, inputs, task="regression", features=lookups, folder=folder / "bundle")
    return made.folder, spine.drop("event_timestamp"), inputs


def of_buyer(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The dataset's rows under the entity's key."""
    return rows.rename({"id": "buyer"})


def of_shop(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The dataset's rows under the entity's key."""
    return rows.rename({"id": "shop"})


_NAMED = {"buyer": of_buyer, "shop": of_shop}


def body(frame: pl.DataFrame) -> bytes:
    """A request with these rows."""
    return json.dumps({"rows": frame.to_dicts()}).encode()


def run(seconds: int, folder: Path) -> list[dict[str, Any]]:
    """All measurements, as rows of the table."""
    with open_workspace(folder) as ws:
        bundle, keyed, inputs = model_in(ws, folder)
        online = online_place_of(ws.location)
    digest = put_tree(open_objects(str(folder / "objects")), bundle)
    write_state(
        folder / "state.json",
        ServingState(1, (ServedEndpoint("m", "salt", (Variant("v1", "model:m@1", digest),)),)),
    )
    settings = ProcessSettings(
        state=folder / "state.json",
        objects=str(folder / "objects"),
        journal=folder / "journal",
        cache=folder / "cache",
        online=online,
        feedback=folder / "feedback",
    )
    with InferenceProcess.launch(settings) as process:
        url = f"{process.url}/endpoints/m/predict"
        answers = [_answers(url, body(frame)) for frame in (keyed, inputs)]
        if answers[0] != answers[1]:
            raise SystemExit("by key the model answers something else than by its inputs")
        some = httpx.post(url, content=body(keyed.head(1))).json()["predictions"][0]["id"]
        if shutil.which("taskset"):
            subprocess.run(["taskset", "-acp", "0", str(process.pid)], check=True, capture_output=True)
            os.sched_setaffinity(0, {1})
        works = [
            (f"{rows} row{'s' * (rows > 1)}, {how}, {connections} connection{'s' * (connections > 1)}", url,
             body(frame.head(rows)), connections)
            for rows, connections in ((1, 64), (1, 1), (32, 16))
            for how, frame in (("inputs given", inputs), ("by two keys", keyed))
        ]  # fmt: skip
        truth = json.dumps({"prediction_id": some, "value": 1}).encode()
        works += [("feedback, 64 connections", f"{process.url}/endpoints/m/feedback", truth, 64)]
        table = []
        for work, where, asked, connections in works:
            before_s = cpu_s(process.pid)
            found = wrk(where, asked, connections, seconds, folder)
            used_s = cpu_s(process.pid) - before_s
            table.append({"work": work, **found, "per_cpu_s": round(found["requests"] / used_s)})
        reads = httpx.get(f"{process.url}/metrics").text
        table.append({"work": "rows per turn of the store", "mean": _per_turn(reads)})
    return table


def _answers(url: str, asked: bytes) -> list[float]:
    answer = httpx.post(url, content=asked, timeout=60)
    answer.raise_for_status()
    return [item["outputs"]["value"] for item in answer.json()["predictions"]]


def _per_turn(metrics: str) -> float:
    figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    rows, turns = (float(figures[f"loopwright_feature_{name}_total"]) for name in ("rows_read", "reads"))
    return round(rows / turns, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--online", default="", help="the online store; by default SQLite")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    if given.online:
        os.environ["LOOPWRIGHT_ONLINE"] = given.online
    with tempfile.TemporaryDirectory(prefix="loopwright-bench-") as folder:
        table = run(given.seconds, Path(folder))
    if given.json:
        print(json.dumps(table))
        return 0
    for row in table:
        work = row.pop("work")
        print(f"{work:<52}" + "  ".join(f"{name} {value}" for name, value in row.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
