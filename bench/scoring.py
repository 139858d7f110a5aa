"""Batch scoring against bare ONNX Runtime on the same rows: rows a second, and the peak of memory.

    python bench/scoring.py                    5 million rows, three rounds
    python bench/scoring.py --rows 50000000    as many as the goal names, one round, from Delta: minutes, and 6 GB
    python bench/scoring.py --source both      from Parquet files and from a Delta table

Ours reads Parquet or a Delta table (of the same files), scores and writes Parquet, in a process of its own. The other
side is what no program can beat with this library: `InferenceSession.run` over rows that lie in memory already, in
batches of several sizes and with threads that spin or sleep, of which the fastest counts. It is asked before and after
ours, on slices of the rows. Both give the same answers, and each row one, which is checked. The median of the ratios is
told. Everything that is written is removed in the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
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
TIMED = 2 * 262_144  # rows of a slice that the other side is timed on, for each of its ways
BATCHES = (4_096, 65_536, 262_144)
BYTES_A_ROW = 8 + 4 * INPUTS + 24  # the id and the inputs; the answers
MANY_ROWS = 10_000_000


def make(folder: Path, rows: int) -> None:
    """A bundle, and rows for it: files of a million, which are a Delta table, too."""
    from deltalake import convert_to_deltalake
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
        frame = pl.DataFrame(rng.standard_normal(size=(count, INPUTS), dtype=np.float32), schema=names)
        frame.insert_column(0, pl.int_range(start, start + count, eager=True).alias("id"))
        frame.write_parquet(folder / "rows" / f"{start:012}.parquet", compression="lz4")
    (folder / "table").mkdir()
    for path in (folder / "rows").iterdir():
        os.link(path, folder / "table" / path.name)
    convert_to_deltalake(str(folder / "table"))


def bare(folder: Path, source: str) -> None:
    """Rows a second of the graph alone, on the rows of one file in memory; prints one JSON object.

    Args:
        source: `first` or `last` of the files.
    """
    import onnxruntime as ort

    graph = (folder / "bundle" / "model.onnx").read_bytes()
    sessions = []
    for spinning in ("1", "0"):  # waiting threads that spin win on an idle machine and lose on a busy one
        options = ort.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        sessions.append(ort.InferenceSession(graph, options))
    name = sessions[0].get_inputs()[0].name
    path = {"first": min, "last": max}[source]((folder / "rows").iterdir())
    frame = pl.read_parquet(path)
    matrix = np.ascontiguousarray(frame.drop("id").to_numpy().astype(np.float32))
    timed = matrix[:TIMED]
    rates: dict[int, float] = {}
    for session, size in itertools.product(sessions, BATCHES):
        start = time.perf_counter()
        for at in range(0, len(timed), size):
            session.run(None, {name: timed[at : at + size]})
        rates[size] = max(rates.get(size, 0.0), len(timed) / (time.perf_counter() - start))
    size = max(rates, key=lambda size: rates[size])
    answered = float(sessions[0].run(None, {name: matrix})[0].astype(np.float64).sum())
    print(json.dumps({"rate": rates[size], "batch": size, "from": int(frame["id"][0]), "sum": answered}))


def ours(folder: Path, source: str) -> None:
    """Score all rows; prints one JSON object.

    Args:
        source: `parquet` or `delta`.
    """
    import resource

    from loopwright.models import Bundle
    from loopwright.serve.batch import open_rows, score, scorer_of

    bundle = Bundle(folder / "bundle")
    output = folder / "answers"
    spent = time.process_time()
    rows = open_rows(folder / {"parquet": "rows", "delta": "table"}[source], bundle.signature)
    report = score(scorer_of(bundle, os.cpu_count() or 1), rows, output, model="bench", digest="bench")
    spent = time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sums = check(output, report.rows)
    shutil.rmtree(output)
    rate = report.rows / report.seconds
    print(json.dumps({"rate": rate, "peak_mb": peak, "rows": report.rows, "cpu_s": spent, "sums": sums}))


def check(output: Path, rows: int) -> dict[str, float]:
    """Make sure that each row has one answer; the sum of the answers of each slice, by its first row."""
    seen = np.zeros(rows, dtype=bool)
    sums = np.zeros(-(-rows // SLICE))
    for path in sorted(output.iterdir()):
        part = pl.read_parquet(path, columns=["id", "value"])
        ids = part["id"].to_numpy()
        if seen[ids].any():
            raise SystemExit(f"{path.name} answers a row twice")
        seen[ids] = True
        sums += np.bincount(ids // SLICE, weights=part["value"].to_numpy(), minlength=len(sums))
    if not seen.all():
        raise SystemExit(f"{int((~seen).sum())} of {rows} rows have no answer")
    return {str(number * SLICE): float(total) for number, total in enumerate(sums)}


def run(task: str, folder: Path, source: str) -> dict[str, float]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder), "--source", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task}: {done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(folder: Path, rows: int, source: str) -> tuple[float, float]:
    """One comparison; its ratio and our peak of memory in MB."""
    before, mine, after = run("bare", folder, "first"), run("ours", folder, source), run("bare", folder, "last")
    sums: dict[str, float] = mine["sums"]  # type: ignore[assignment]  # the one answer that is no number
    for alone in (before, after):
        expected, found = alone["sum"], sums[str(int(alone["from"]))]
        # Its own threads add the trees' floats in another order than one thread does: a millionth an answer.
        if mine["rows"] != rows or abs(expected - found) > 1e-6 * min(SLICE, rows):
            raise SystemExit(f"the answers differ: {expected} and {found} for the rows from {alone['from']:,}")
    alone_rate = (before["rate"] + after["rate"]) / 2
    print(
        f"{source:<8} bare ONNX Runtime {before['rate']:>9,.0f} and {after['rate']:>9,.0f} rows/s "
        f"(batches of {before['batch']:,.0f})   loopwright {mine['rate']:>9,.0f} rows/s, "
        f"{rows / mine['cpu_s']:>9,.0f} a second of its processor time   ratio {mine['rate'] / alone_rate:.2f}   "
        f"peak {mine['peak_mb']:.0f} MB   load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return mine["rate"] / alone_rate, mine["peak_mb"]


def main() -> None:
    """Make the rows, measure both sides in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, help="3; 1 for more than ten million rows")
    parser.add_argument("--source", help="parquet, delta, or both; delta for more than ten million rows")
    parser.add_argument("--task", choices=["bare", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        {"bare": bare, "ours": ours}[given.task](given.folder, given.source)
        return
    began, free = time.monotonic(), shutil.disk_usage(tempfile.gettempdir()).free
    if free < given.rows * BYTES_A_ROW * 1.2:
        raise SystemExit(f"{given.rows:,} rows need {given.rows * BYTES_A_ROW * 1.2 / 1e9:.1f} GB of scratch space, "
                         f"and {tempfile.gettempdir()} has {free / 1e9:.1f} GB (TMPDIR names another)")  # fmt: skip
    rounds = given.rounds or (3 if given.rows <= MANY_ROWS else 1)
    source = given.source or ("both" if given.rows <= MANY_ROWS else "delta")
    sources = ["parquet", "delta"] if source == "both" else [source]
    with tempfile.TemporaryDirectory(prefix="bench-scoring-") as text:
        folder = Path(text)
        make(folder, given.rows)
        print(f"{given.rows:,} rows made in {time.monotonic() - began:.0f} s", flush=True)
        found = [compare(folder, given.rows, source) for _ in range(rounds) for source in sources]
    peak = max(peak for _, peak in found)
    print(f"{given.rows:,} rows: {statistics.median(ratio for ratio, _ in found):.2f} of bare ONNX Runtime (goal 0.8), "
          f"peak of memory {peak:,.0f} MB (goal below 1,000 MB: {'yes' if peak < 1_000 else 'NO'}), "
          f"{time.monotonic() - began:.0f} s in all")  # fmt: skip


if __name__ == "__main__":
    main()
