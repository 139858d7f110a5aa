"""The row of local trackers: one metric a call, ours by bench/spool.py, the others by the same loops."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import OURS, Line, check
from peers import environment
from running import Bench, program
from spool import alone, count_of

TRACKERS = ("trackio", "swanlab", "wandb", "aim", "tensorboardX")


def native(bench: Bench) -> list[Line]:
    """A call's latency, and metrics a second until they are durable. Only ours can keep them on PostgreSQL."""

    def theirs(name: str) -> list[Line]:
        with tempfile.TemporaryDirectory(prefix="bench-tracking-") as folder:
            python = environment(name)
            found = program(python, "native_peer.py", "write", name, f"{folder}/peer", bench.sizes.slow_native)
        return _lines(name, found)

    tasks = {OURS: lambda: _ours(bench)}
    return bench.rounds(tasks | {name: partial(theirs, name) for name in TRACKERS})


def _ours(bench: Bench) -> list[Line]:
    calls = bench.sizes.native
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as text, kept_in(bench.databases.fresh(OURS)):
        run, median, p99, _, busy = _alone("latency", text, calls)
        check(count_of(text, run, "loss"), calls)
        run, rate, rate_by_cpu, called = _alone("rate", text, calls * 10)
        check(count_of(text, run, "m"), calls * 10)
    figures = {"median_us": float(median), "p99_us": float(p99), "busy": float(busy)}
    figures |= {"per_second": float(rate), "cores": float(rate) / float(rate_by_cpu)}
    return _lines(OURS, {**figures, "called": float(called), "calls": calls * 10})


def _alone(task: str, folder: str, calls: int) -> list[str]:
    try:
        return list(alone(task, folder, calls, Path(folder)))
    except SystemExit as error:
        raise RuntimeError(f"bench/spool.py fails: {error}") from None


@contextlib.contextmanager
def kept_in(db: str) -> Iterator[None]:
    """Workspaces that this process and those that it starts open keep their rows in a database; none for SQLite."""
    if not db:
        yield
        return
    os.environ["LOOPWRIGHT_DB"] = db
    try:
        yield
    finally:
        del os.environ["LOOPWRIGHT_DB"]


def _lines(name: str, found: dict[str, float]) -> list[Line]:
    call = f"the calling thread was on a core {min(found['busy'], 1):.0%} of the time in calls"
    rate = (
        f"{found['cores']:.2f} cores used by its processes; {found['called']:.0%} of the time in calls, then delivery"
    )
    return [
        Line("native call, median", name, found["median_us"], "µs", 5, False, bound_by=call),
        Line("native call, p99", name, found["p99_us"], "µs", 50, False, bound_by=call),
        Line(
            "native, durable metrics", name, found["per_second"], "metrics/s", 500_000, bound_by=rate,
            amount=found["calls"], thing="calls",
        ),
    ]  # fmt: skip
