"""Batch scoring against bare ONNX Runtime on the same rows: rows a second, and the peak of memory.

    python bench/scoring.py                    5 million rows
    python bench/scoring.py --rows 50000000    as many as the goal names (about 4 GB of Parquet in a scratch folder)

Ours reads Parquet, scores and writes Parquet, in a process of its own. The other side is what no program can beat with
this library: `InferenceSession.run` over rows that lie in memory already, in batches of several sizes and with threads
that spin or sleep, of which the fastest counts. Both give the same answers, which is checked first. The two take turns,
three rounds; the median of the ratios is told.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

INPUTS = 20
SLICE = 1_000_000
BATCHES = (4_096, 65_536, 262_144)


def make(folder: Path, rows: int) -> None:
    """A bundle, and rows for it: several files of a million."""
    from lightgbm import LGBMRegressor

    from loopwright.models import build_bundle

    rng = np.random.default_rng(0)
    first = rng.normal(size=(20_000, INPUTS)).astype(np.float32)
    model = LGBMRegressor(n_estimators=100, verbose=-1).fit(first, first[:, 0] * 2 + first[:, 1])
    names = [f"f{number}" for number in range(INPUTS)]
    build_bundle(model, pl.DataFrame(first[:2_000], schema=names), folder=folder / "bundle")
    (folder / "rows").mkdir()
    for start in range(0, rows, SLICE):
        count = min(SLICE, rows - start)
        frame = pl.DataFrame(rng.normal(size=(count, INPUTS)).astype(np.float32), schema=names)
        frame.insert_column(0, pl.int_range(start, start + count, eager=True).alias("id"))
        frame.write_parquet(folder / "rows" / f"{start:012}.parquet")


def bare(folder: Path) -> None:
    """Rows a second of the graph alone, on one file's rows in memory; prints one JSON object."""
    import onnxruntime as ort

    graph = (folder / "bundle" / "model.onnx").read_bytes()
    sessions = []
    for spinning in ("1", "0"):  # waiting threads that spin win on an idle machine and lose on a busy one
        options = ort.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        sessions.append(ort.InferenceSession(graph, options))
    name = sessions[0].get_inputs()[0].name
    path = min((folder / "rows").iterdir())
    matrix = np.ascontiguousarray(pl.read_parquet(path).drop("id").to_numpy().astype(np.float32))
    rates: dict[int, float] = {}
    answers = []
    for session, size in itertools.product(sessions, BATCHES):
        start = time.perf_counter()
        answers = [session.run(None, {name: matrix[at : at + size]})[0] for at in range(0, len(matrix), size)]
        rates[size] = max(rates.get(size, 0.0), len(matrix) / (time.perf_counter() - start))
    size = max(rates, key=lambda size: rates[size])
    answered = float(np.concatenate(answers).astype(np.float64).sum())
    print(json.dumps({"rate": rates[size], "batch": size, "rows": len(matrix), "sum": answered}))


def ours(folder: Path) -> None:
    """Score all rows; prints one JSON object."""
    import resource

    from loopwright.models import Bundle
    from loopwright.serve.batch import open_rows, score

    bundle = Bundle(folder / "bundle")
    output = folder / "answers"
    rows = open_rows(folder / "rows", bundle.signature)
    report = score(bundle.predictor(os.cpu_count() or 1), rows, output, model="bench", digest="bench")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = pl.scan_parquet(output).select(pl.len(), pl.col("id").n_unique().alias("ids")).collect().row(0)
    if found != (report.rows, report.rows):
        raise SystemExit(f"the output has {found} rows and ids, of {report.rows}")
    first = pl.scan_parquet(output).head(SLICE).select(pl.col("value").cast(pl.Float64).sum()).collect().item()
    for path in output.iterdir():
        path.unlink()
    output.rmdir()
    print(json.dumps({"rate": report.rows / report.seconds, "peak_mb": peak, "rows": report.rows, "sum": first}))


def run(task: str, folder: Path) -> dict[str, float]:
    """One side in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--task", task, "--folder", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{task}: {done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Make the rows, measure both sides in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=["bare", "ours"])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.task:
        {"bare": bare, "ours": ours}[given.task](given.folder)
        return
    with tempfile.TemporaryDirectory(prefix="bench-scoring-") as text:
        folder = Path(text)
        make(folder, given.rows)
        rounds = [(run("bare", folder), run("ours", folder)) for _ in range(given.rounds)]
    for alone, mine in rounds:
        if given.rows >= SLICE and abs(alone["sum"] - mine["sum"]) > 1e-6 * abs(alone["sum"]) + 1e-3:
            raise SystemExit(f"the answers differ: {alone['sum']} and {mine['sum']}")
        print(
            f"bare ONNX Runtime {alone['rate']:>10,.0f} rows/s (batches of {alone['batch']:,.0f})   "
            f"loopwright {mine['rate']:>10,.0f} rows/s   ratio {mine['rate'] / alone['rate']:.2f}   "
            f"peak {mine['peak_mb']:.0f} MB   load {os.getloadavg()[0]:.1f}"
        )
    middle = statistics.median(mine["rate"] / alone["rate"] for alone, mine in rounds)
    print(f"{given.rows:,} rows: {middle:.2f} of bare ONNX Runtime (goal 0.8), peak of memory below 1,000 MB: "
          f"{'yes' if max(mine['peak_mb'] for _, mine in rounds) < 1_000 else 'NO'}")  # fmt: skip


if __name__ == "__main__":
    main()
