"""How fast the inference process answers, with the prediction log on. Needs wrk (Debian: apt-get install wrk).

    python bench/serving.py [--seconds 5] [--overload 60] [--json]

The server has one core and wrk another. Of `light`, a model of 20 multiplications, little is the model's: its rows tell
what the server costs. An overload of nine times as many connections runs for as long as `--overload` says. `per_cpu_s`
is requests per second of the processor time that the server used: a busy machine blurs it less. Before anything is
timed, the server's answers are compared with the model's; afterwards the log must hold every row that was answered.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from loopwright.models import Bundle, build_bundle, predict_frame
from loopwright.serve import (
    InferenceClient,
    InferenceProcess,
    ServedEndpoint,
    ServingState,
    Variant,
    read_predictions,
    write_state,
)
from loopwright.store import open_objects, put_tree

FEATURES = 20
ROWS = 4_000


def numeric_model() -> tuple[Bundle, pl.DataFrame]:
    """Gradient boosting over 20 numbers, which takes one matrix."""
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({f"x{number}": rng.normal(size=ROWS) for number in range(FEATURES)})
    goal = (rows.to_numpy()[:, :3].sum(axis=1) + rng.normal(size=ROWS) > 0).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=100, num_leaves=15, verbose=-1, n_jobs=1)
    return build_bundle(model.fit(rows.to_numpy(), goal), rows), rows


def mixed_model() -> tuple[Bundle, pl.DataFrame]:
    """A scikit-learn pipeline with scaling, string categories and missing values, and gradient boosting behind it."""
    rng = np.random.default_rng(1)
    rows = pl.DataFrame(
        {
            **{f"n{number}": rng.normal(size=ROWS) for number in range(10)},
            "gap": np.where(rng.random(ROWS) < 0.2, np.nan, rng.normal(size=ROWS)),
            "hour": rng.integers(0, 24, ROWS),
            "carrier": rng.choice(["AA", "UA", "B6"], ROWS),
            "origin": rng.choice(["JFK", "EWR", "LGA"], ROWS),
        }
    ).with_columns(pl.col("gap").fill_nan(None))
    goal = (rows["n0"].to_numpy() + (rows["carrier"] == "B6").to_numpy() > 0.3).astype(int)
    numbers = [name for name in rows.columns if name not in ("carrier", "origin")]
    words = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("numbers", StandardScaler(), numbers), ("words", words, ["carrier", "origin"])])
    model = lightgbm.LGBMClassifier(n_estimators=100, num_leaves=15, verbose=-1, n_jobs=1)
    return build_bundle(make_pipeline(columns, model).fit(rows, goal), rows), rows


def matrix_body(rows: pl.DataFrame) -> bytes:
    """One tensor [rows, inputs]."""
    data = [value for row in rows.iter_rows() for value in row]
    tensor = {"name": "features", "shape": [rows.height, rows.width], "datatype": "FP64", "data": data}
    return msgspec.json.encode({"inputs": [tensor]})


def light_model() -> tuple[Bundle, pl.DataFrame]:
    """Logistic regression over 20 numbers."""
    rng = np.random.default_rng(2)
    rows = pl.DataFrame({f"x{number}": rng.normal(size=ROWS) for number in range(FEATURES)})
    goal = (rows["x0"].to_numpy() + rng.normal(size=ROWS) > 0).astype(int)
    return build_bundle(LogisticRegression().fit(rows.to_numpy(), goal), rows), rows


def binary_body(rows: pl.DataFrame) -> tuple[bytes, int]:
    """One tensor [rows, inputs] of float32 behind the JSON, and the length of that."""
    raw = rows.to_numpy().astype("<f4").tobytes()
    shape, size = [rows.height, rows.width], {"binary_data_size": len(raw)}
    tensor = {"name": "features", "shape": shape, "datatype": "FP32", "parameters": size}
    head = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return head + raw, len(head)


def columns_body(rows: pl.DataFrame) -> bytes:
    """One tensor per input."""
    kinds = {pl.Float64: "FP64", pl.Int64: "INT64", pl.String: "BYTES"}
    tensors = [{"name": c.name, "shape": [len(c)], "datatype": kinds[type(c.dtype)], "data": c.to_list()} for c in rows]
    return msgspec.json.encode({"inputs": tensors})


def wrk(
    url: str, body: bytes, connections: int, seconds: int, folder: Path, head: int = 0, refusals: bool = False
) -> dict[str, Any]:
    """Requests per second and latencies in milliseconds, seen by wrk on its own core.

    Args:
        head: the length of the JSON in front of binary tensors; 0 for a body of JSON alone.
        refusals: whether answers other than 200 are counted, rather than an end of the measurement.
    """
    script = folder / "post.lua"
    quoted = "".join(f"\\{byte:03d}" for byte in body)
    kind = "application/octet-stream" if head else "application/json"
    length = f'wrk.headers["Inference-Header-Content-Length"] = "{head}"\n' if head else ""
    script.write_text(f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "{kind}"\n{length}wrk.body = "{quoted}"\n')
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    text = subprocess.run(_pinned(1, command), capture_output=True, text=True, check=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if (refused and not refusals) or "Socket errors" in text:
        raise SystemExit(f"wrk saw errors:\n{text}")
    figures = {name: _milliseconds(text, name) for name in ("50%", "99%")}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate is not None
    count = re.search(r"(\d+) requests in", text)
    assert count is not None
    latencies = {"p50_ms": figures["50%"], "p99_ms": figures["99%"]}
    found = {"requests_per_s": round(float(rate[1])), **latencies, "requests": int(count[1])}
    return {**found, "refused": int(refused[1]) if refused else 0} if refusals else found


def _milliseconds(text: str, name: str) -> float:
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s)\b", text)
    assert found is not None
    return round(float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]], 3)


def _pinned(core: int, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else command


def check(client: InferenceClient, endpoint: str, bundle: Bundle, rows: pl.DataFrame) -> None:
    """Compare the server's answers with the model's before they are timed."""
    part = rows.head(200)
    found = client.infer_many(endpoint, {c.name: c.to_list() for c in part})
    expected = predict_frame(bundle.predictor(), part)["probability"].to_numpy()
    np.testing.assert_allclose(found.outputs["probability"], expected, atol=1e-5)


def replay(client: InferenceClient, rows: pl.DataFrame, count: int) -> dict[str, Any]:
    """Single-row requests through our own client, which has the other core."""
    many = pl.concat([rows] * (count // rows.height))
    columns = {c.name: c.to_list() for c in many}
    keys = [str(number) for number in range(many.height)]
    started = time.perf_counter()
    found = client.infer_many("mixed", columns, keys=keys, event_times=list(range(many.height)))
    seconds = time.perf_counter() - started
    assert not found.errors
    return {"requests_per_s": round(many.height / seconds), "p50_ms": None, "p99_ms": None}


def run(seconds: int, overload_s: int) -> list[dict[str, Any]]:
    """All measurements, as rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="loopwright-bench-"))
    objects = open_objects(str(folder / "objects"))
    made = {"numeric": numeric_model(), "mixed": mixed_model(), "light": light_model()}
    endpoints = tuple(
        ServedEndpoint(name, "salt", (Variant("champion", f"model:{name}@1", put_tree(objects, bundle.folder)),))
        for name, (bundle, _) in made.items()
    )
    write_state(folder / "state.json", ServingState(1, endpoints))
    place = {"state": folder / "state.json", "journal": folder / "journal", "cache": folder / "cache"}
    started = time.perf_counter()
    with InferenceProcess.start(objects=str(folder / "objects"), **place) as process:
        ready_s = time.perf_counter() - started
        if shutil.which("taskset"):
            subprocess.run(["taskset", "-acp", "0", str(process.pid)], check=True, capture_output=True)
            os.sched_setaffinity(0, {1})
        with InferenceClient(process.url) as client:
            for name, (bundle, rows) in made.items():
                check(client, name, bundle, rows)
            table = _measure(process, client, made, seconds, folder)
            if overload_s:
                table.append(overload(process, made["numeric"][1], overload_s, folder))
        table.append({"work": "start to ready", "seconds": round(ready_s, 2)})
        table.append({"work": "resident memory", "MiB": _resident_mib(process.pid)})
    logged = sum(1 for _ in _all_predictions(folder / "journal"))
    answered = sum(row.get("rows", 0) for row in table)
    if logged < answered:
        raise SystemExit(f"{answered} rows were answered and {logged} are in the log")
    table.append({"work": "predictions in the log", "count": logged})
    shutil.rmtree(folder, ignore_errors=True)
    return table


def _measure(
    process: InferenceProcess, client: InferenceClient, made: dict[str, Any], seconds: int, folder: Path
) -> list[dict[str, Any]]:
    numeric, mixed = made["numeric"][1], made["mixed"][1]
    light = made["light"][1]
    works: list[tuple[str, str, bytes | tuple[bytes, int], int]] = [
        ("1 row, 20 numbers, 64 connections", "numeric", matrix_body(numeric.head(1)), 64),
        ("1 row, 20 numbers, 1 connection", "numeric", matrix_body(numeric.head(1)), 1),
        ("32 rows, 20 numbers, 16 connections", "numeric", matrix_body(numeric.head(32)), 16),
        ("32 rows, 20 numbers, binary, 16 connections", "numeric", binary_body(numeric.head(32)), 16),
        ("1 row, 14 named columns, pipeline, 64 connections", "mixed", columns_body(mixed.head(1)), 64),
        ("1 row, light model, 64 connections", "light", matrix_body(light.head(1)), 64),
        ("32 rows, light model, 16 connections", "light", matrix_body(light.head(32)), 16),
        ("32 rows, light model, binary, 16 connections", "light", binary_body(light.head(32)), 16),
    ]
    table = []
    for work, endpoint, given, connections in works:
        body, head = given if isinstance(given, tuple) else (given, 0)
        url = f"{process.url}/v2/models/{endpoint}/infer"
        before_s = cpu_s(process.pid)
        found = wrk(url, body, connections, seconds, folder, head)
        per_cpu_s = round(found["requests"] / (cpu_s(process.pid) - before_s))
        rows = 32 if work.startswith("32") else 1
        table.append({"work": work, **found, "per_cpu_s": per_cpu_s, "rows": found["requests"] * rows})
    before_s = cpu_s(process.pid)
    found = replay(client, mixed, 40_000)
    used_s = cpu_s(process.pid) - before_s
    table.append(
        {
            "work": "replay: 1 row, 14 named columns, our client",
            **found,
            "per_cpu_s": round(40_000 / used_s),
            "rows": 40_000,
        }
    )
    return table


def overload(process: InferenceProcess, rows: pl.DataFrame, seconds: int, folder: Path) -> dict[str, Any]:
    """Eight times as many connections as are usual, none of which ever pauses; what they get, and what memory does."""
    url, before = f"{process.url}/v2/models/numeric/infer", _resident_mib(process.pid)
    found = wrk(url, matrix_body(rows.head(1)), 512 + 64, seconds, folder, refusals=True)
    answered = found["requests"] - found["refused"]
    memory = {"MiB_before": before, "MiB_after": _resident_mib(process.pid)}
    return {"work": "overload: 1 row, 576 connections", **found, **memory, "rows": answered}


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _all_predictions(journal: Path) -> Any:
    cursor = None
    while True:
        batch, cursor = read_predictions(journal, cursor, 50_000)
        if not batch:
            return
        yield from batch


def _resident_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--overload", type=int, default=0, help="seconds of overload; 0 for none")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    table = run(given.seconds, given.overload)
    if given.json:
        print(json.dumps(table))
        return 0
    for row in table:
        work = row.pop("work")
        print(f"{work:<52}" + "  ".join(f"{name} {value}" for name, value in row.items() if value is not None))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
