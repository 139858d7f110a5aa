"""The rows: work done the same way on both sides, checked, then timed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from http_load import call, ceiling, echo, request, send
from peers import HERE, Server, environment, serving

API = "/api/2.0/mlflow"
SERVERS = ("loopwright", "mlflow", "mlflow best", "fasttrackml")
TRACKERS = ("trackio", "swanlab", "wandb", "aim", "tensorboardX")
FILTER = "metrics.acc > 0.9 and params.lr = '0.1'"


class Line(msgspec.Struct):
    """One figure of one side. `goal` is a bound for our own figures; `least_ratio` one against this peer."""

    work: str
    side: str
    figure: float
    unit: str
    goal: float = 0.0
    at_least: bool = True
    least_ratio: float = 0.0
    bound_by: str = ""


class Sizes(msgspec.Struct):
    """How much work is done: `ours` on our side, `theirs` where a peer would take minutes for as much."""

    calls: int
    batches: int
    native: int
    runs: int
    their_runs: int

    @classmethod
    def of(cls, quick: bool) -> Sizes:
        """The sizes of the published table, or small ones to try the program."""
        return cls(100, 5, 5_000, 20, 5) if quick else cls(600, 60, 100_000, 5_000, 200)


def _program(python: Path, name: str, *words: object) -> dict[str, float]:
    done = subprocess.run(
        [str(python), str(HERE / name), *map(str, words)], capture_output=True, text=True, check=False, timeout=3600
    )
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(map(str, words))}: {done.stderr[-600:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def new_run(server: Server, **fields: Any) -> str:
    """The id of a fresh run."""
    made = call(server.url, "POST", f"{API}/runs/create", {"experiment_id": "0", "start_time": 1, **fields})
    return str(made["run"]["info"]["run_id"])


def history(server: Server, run: str, key: str) -> list[tuple[int, float]]:
    """All points of a metric through MLflow's REST, page by page where the server makes pages."""
    found, token = [], ""
    while True:
        path = f"{API}/metrics/get-history?run_id={run}&metric_key={key}&page_token={quote(token)}"
        page = call(server.url, "GET", path.removesuffix("&page_token="))
        found += [(int(item.get("step", 0)), float(item["value"])) for item in page.get("metrics", [])]
        token = page.get("next_page_token", "")
        if not token:
            return sorted(found)


def start(_sizes: Sizes, db: Callable[[str], str]) -> list[Line]:
    """From the start of the process to the first answer; the memory of all processes after three idle seconds."""
    lines = []
    for name in SERVERS:
        with serving(name, db(name)) as server:
            time.sleep(3)
            why = "not taken apart"
            lines.append(Line("start to first answer", name, server.start_s, "s", 1.5, False, bound_by=why))
            lines.append(
                Line(
                    "idle memory, all processes", name, server.memory_mb(), "MB", 200, False, bound_by="not taken apart"
                )
            )
    return lines


def client(sizes: Sizes, db: Callable[[str], str]) -> list[Line]:
    """MLflow's unmodified client, one `log_metric` a call; its own limit is taken from a server that stores nothing."""
    python = environment("mlflow")
    process, url = echo()
    try:
        alone = _program(python, "mlflow_client.py", "log", url, sizes.calls, "0" * 32)["per_second"]
    finally:
        process.kill()
        process.wait()
    lines = [Line("mlflow client, log_metric", "(stores nothing)", alone, "calls/s")]
    for name in SERVERS:
        with serving(name, db(name)) as server:
            figures = _program(python, "mlflow_client.py", "log", server.url, sizes.calls)
            why = f"client: {figures['cpu_per_second']:.0f} calls/s of its CPU time"
            lines.append(
                Line("mlflow client, log_metric", name, figures["per_second"], "calls/s", 0.8 * alone, bound_by=why)
            )
    return lines


def raw(sizes: Sizes, db: Callable[[str], str]) -> list[Line]:
    """`log-metric` over 8 kept-alive connections."""
    work, lines = "raw log-metric, 8 connections", []
    lines.append(Line(work, "(load generator)", ceiling(), "calls/s"))
    for name in SERVERS:
        each = sizes.calls * (10 if name == "loopwright" else 1) // 4
        with serving(name, db(name)) as server:
            run = new_run(server)
            streams = [
                [
                    request(server.url, "POST", f"{API}/runs/log-metric", _point(run, f"m{worker}", step))
                    for step in range(each)
                ]
                for worker in range(8)
            ]
            used = server.cpu_s()
            _, took = send(server.url, streams)
            used = server.cpu_s() - used
            for worker in range(8):
                check(history(server, run, f"m{worker}"), [(step, step / 7) for step in range(each)])
        why = f"server: {8 * each / max(used, 0.01):.0f} calls/s of its CPU time, {used / took:.2f} cores used"
        ratio = 30.0 if name == "mlflow best" else 0.0
        lines.append(Line(work, name, 8 * each / took, "calls/s", 3_000, True, ratio, why))
    return lines


def _point(run: str, key: str, step: int) -> dict[str, Any]:
    return {"run_id": run, "key": key, "value": step / 7, "timestamp": 1_700_000_000_000 + step, "step": step}


def batch(sizes: Sizes, db: Callable[[str], str]) -> list[Line]:
    """`log-batch`, 1000 metrics a call of 1, 100 and 1000 keys, over one connection."""
    lines = []
    for name in SERVERS:
        calls = sizes.batches if name == "loopwright" else max(sizes.batches // 6, 3)
        with serving(name, db(name)) as server:
            for keys in (1, 100, 1000):
                run, each = new_run(server), 1000 // keys
                stream = []
                for number in range(calls):
                    steps = range(number * each, (number + 1) * each)
                    metrics = [_point(run, f"k{key}", step) for step in steps for key in range(keys)]
                    for metric in metrics:
                        del metric["run_id"]
                    body = {"run_id": run, "metrics": metrics, "params": [], "tags": []}
                    stream.append(request(server.url, "POST", f"{API}/runs/log-batch", body))
                used = server.cpu_s()
                _, took = send(server.url, [stream])
                used = server.cpu_s() - used
                check(history(server, run, f"k{keys - 1}"), [(step, step / 7) for step in range(calls * each)])
                why = f"server: {used / took:.2f} cores used"
                ratio = 30.0 if name.startswith("mlflow") else 0.0
                work = f"log_batch, 1000 metrics of {keys} keys"
                lines.append(Line(work, name, calls * 1000 / took, "metrics/s", 0, True, ratio, why))
    return lines


def create(sizes: Sizes, db: Callable[[str], str]) -> list[Line]:
    """Runs with 5 params, 5 metrics and 5 tags through MLflow's client."""
    lines = []
    for name in SERVERS:
        count = sizes.runs if name == "loopwright" else sizes.their_runs
        with serving(name, db(name)) as server:
            figures = _program(environment("mlflow"), "mlflow_client.py", "create", server.url, count)
        why = f"client: {figures['cpu_per_second']:.0f} runs/s of its CPU time"
        ratio = 10.0 if name == "mlflow" else 0.0
        lines.append(Line("create runs, mlflow client", name, figures["per_second"], "runs/s", 0, True, ratio, why))
    return lines


def native(sizes: Sizes, _db: Callable[[str], str]) -> list[Line]:
    """One metric a call on this machine: ours by bench/spool.py, the others by the same loops."""
    from spool import alone, count_of

    lines = []
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as text:
        folder = Path(text)
        run, median, p99, _ = alone("latency", text, sizes.native, folder)
        check(count_of(text, run, "loss"), sizes.native)
        rate_run, rate, _ = alone("rate", text, sizes.native * 10, folder)
        check(count_of(text, rate_run, "m"), sizes.native * 10)
        lines += _native("loopwright", float(median), float(p99), float(rate))
        for name in TRACKERS:
            try:
                found = _program(environment(name), "native_peer.py", "write", name, folder / name, sizes.native // 5)
            except RuntimeError as error:
                print(f"{name} has no figure: {error}", file=sys.stderr)
                continue
            lines += _native(name, found["median_us"], found["p99_us"], found["per_second"])
    return lines


def _native(name: str, median: float, p99: float, rate: float) -> list[Line]:
    return [
        Line("native call, median", name, median, "µs", 5, False, bound_by="not taken apart"),
        Line("native call, p99", name, p99, "µs", 50, False, bound_by="not taken apart"),
        Line("native, durable metrics", name, rate, "metrics/s", 500_000, bound_by="not taken apart"),
    ]


def check(found: object, expected: object) -> None:
    """Tell no time of a wrong answer."""
    if found != expected:
        raise RuntimeError(f"read {str(found)[:200]}, wrote {str(expected)[:200]}")


ROWS: dict[str, Callable[[Sizes, Callable[[str], str]], list[Line]]] = {
    "start": start,
    "client": client,
    "raw": raw,
    "batch": batch,
    "native": native,
    "create": create,
}
