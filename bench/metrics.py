"""How fast metrics are stored and read. What was stored is read back and counted before a figure is printed.

    python bench/metrics.py [--db postgresql://USER@HOST/DATABASE] [--points 1000000] [--only PART] [--json]

By default on SQLite in a temporary folder, with every commit waiting for the disk where nothing else is said. `cpu` is
the processor time of this process against the wall clock: near 1, our own work bounds the figure; well below, the
disk or the database server does, or another process had the processor: repeat on a quiet machine, and compare ratios.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loopwright.core import Location, Scope, Settings, new_id
from loopwright.store import Stores, open_stores
from loopwright.track import Delivery, MetricIntake, MetricPoint, RunService, columns_of, deliver

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 1_000
MOSTLY = 0.7


class Figure(msgspec.Struct):
    """One line of the table; `goal` is what the project promises, above or below which it must be."""

    work: str
    figure: float
    unit: str
    goal: str
    cpu: float
    bound_by: str


class Bench:
    """Runs the parts on one workspace."""

    def __init__(self, stores: Stores, points: int) -> None:
        self.stores, self.points = stores, points
        self.runs = RunService(stores, Scope())
        self.figures: list[Figure] = []
        self.outside = "the disk" if stores.db.dialect == "sqlite" else "PostgreSQL"
        self.outside += ", or others on this machine"

    @contextmanager
    def timed(self, work: str, amount: int, unit: str, goal: str) -> Iterator[None]:
        """Time what is inside: `amount` a second, or with the unit `ms` or `s` the time of each of `amount`."""
        wall, cpu = time.perf_counter(), _cpu_s()
        yield
        took, used = time.perf_counter() - wall, _cpu_s() - cpu
        figure = amount / took if unit.endswith("/s") else took / amount * (1000 if unit == "ms" else 1)
        bound_by = "our processor time" if used / took > MOSTLY else self.outside
        self.figures.append(Figure(work, figure, unit, goal, used / took, bound_by))

    def batches(self) -> None:
        """`log_batch` with a thousand metrics a call, of one, a hundred and a thousand keys."""
        for keys in (1, 100, 1_000):
            run, calls = self.runs.start(name=f"{keys} keys").id, 150
            given = [list(_batch(keys, call)) for call in range(calls)]
            self.runs.log_batch(run, given[0])
            with self.timed(f"log_batch, 1000 a call, {keys} keys", (calls - 1) * BATCH, "metrics/s", ">= 90,000"):
                for points in given[1:]:
                    self.runs.log_batch(run, points)
            found = self.runs.histories([run], f"k{keys - 1}")[0]
            check(len(found.steps), calls * BATCH // keys)

    def deliveries(self) -> None:
        """Columns of a hundred thousand points a delivery, at the primitive: no parsing, a commit each."""
        run, size = self.runs.start(name="delivered").id, 100_000
        spool = new_id()
        values = np.random.default_rng(0).normal(size=self.points)
        times = np.arange(self.points) * 1_000_003
        with self.timed(f"deliver, {size:,} points each", self.points, "points/s", ">= 1,000,000"):
            for start in range(0, self.points, size):
                part = np.arange(start, min(start + size, self.points))
                columns = columns_of(part, times[part], values[part])
                with self.stores.db.begin() as tx:
                    done = Delivery(spool, 0, start, start + len(part), {run: {"m": columns}})
                    deliver(self.stores.db, tx, "default", done)
        self.reads(run, values)

    def reads(self, run: str, values: np.ndarray[Any, Any]) -> None:
        """The whole history, a page and curves of the series that was delivered."""
        with self.timed(f"history of {self.points:,} points", 1, "s", "< 2"):
            history = self.runs.history(run, "m")
        check(history.floats(), values.tolist())
        with self.timed("page of 1000 from its middle", 20, "ms", ""):
            for _ in range(20):
                page = self.runs.history(run, "m", first_step=self.points // 2, limit=1000)
        check(page.values, values[self.points // 2 :][:1000].tolist())
        with self.timed(f"curve of {self.points:,} points to 1000 buckets", 20, "ms", "< 30"):
            for _ in range(20):
                [curve] = self.runs.curve(run, ["m"])
        check((min(curve.lows), max(curve.highs), sum(curve.counts)), (values.min(), values.max(), self.points))
        tenth = self.points // 10
        with self.timed("curve of its middle tenth", 20, "ms", "< 30"):
            for _ in range(20):
                [curve] = self.runs.curve(run, ["m"], 1000, 4 * tenth, 5 * tenth - 1)
        check((min(curve.lows), sum(curve.counts)), (values[4 * tenth : 5 * tenth].min(), tenth))

    def intake(self) -> None:
        """Eight threads that submit single points, each waiting for its answer; then one after the other without."""
        for name, every_s in (("each group on the disk", 0.0), ("one group a second on the disk", 1.0)):
            self._submit(f"intake, 8 threads, single points, {name}", every_s, 500, wait=True, goal=">= 5,000")
        self._submit("intake, 8 threads that do not wait", 0.0, 3_000, wait=False, goal="")

    def _submit(self, work: str, sync_every_s: float, each: int, *, wait: bool, goal: str) -> None:
        run = self.runs.start(name=work).id
        intake = MetricIntake(self.stores, sync_every_s=sync_every_s)

        def submit(worker: int) -> None:
            for step in range(each):
                answer = intake.submit("default", run, [MetricPoint(f"m{worker}", float(step), step, START)])
                if wait:
                    answer.result()

        threads = [threading.Thread(target=submit, args=(worker,)) for worker in range(8)]
        with self.timed(work, 8 * each, "points/s", goal):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            intake.close()
        for worker in range(8):
            check(self.runs.history(run, f"m{worker}").steps, list(range(each)))


def _batch(keys: int, call: int) -> Iterator[MetricPoint]:
    each = BATCH // keys
    for step in range(call * each, (call + 1) * each):
        at = START + timedelta(seconds=step)
        for key in range(keys):
            yield MetricPoint(f"k{key}", key + step / 7, step, at)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def check(found: Any, expected: Any) -> None:
    """Refuse to print a figure for a wrong answer."""
    if found != expected:
        raise SystemExit(f"read {str(found)[:200]}, wrote {str(expected)[:200]}")


def show(figures: list[Figure]) -> None:
    """Print the table."""
    print(f"{'work':<68} {'figure':>12} {'unit':<10} {'must be':<12} {'cpu':>5}  bound by")
    for item in figures:
        shown = f"{item.figure:,.0f}" if item.figure >= 100 else f"{item.figure:.2f}"
        print(f"{item.work:<68} {shown:>12} {item.unit:<10} {item.goal:<12} {item.cpu:5.2f}  {item.bound_by}")


def main() -> None:
    """Run what was asked for, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", default="", help="a PostgreSQL database of its own, which is filled")
    parser.add_argument("--points", type=int, default=1_000_000, help="length of the long series")
    parser.add_argument("--only", choices=["batches", "deliveries", "intake"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        location = Location(root, root / ".loopwright", Settings(db=given.db))
        stores = open_stores(location, ["loopwright.track.migrations"])
        bench = Bench(stores, given.points)
        parts: dict[str, Callable[[], None]] = {
            "batches": bench.batches,
            "deliveries": bench.deliveries,
            "intake": bench.intake,
        }
        for part, run in parts.items():
            if given.only in (None, part):
                run()
        stores.close()
    if given.json:
        print(json.dumps([msgspec.structs.asdict(item) for item in bench.figures]))
    else:
        show(bench.figures)


if __name__ == "__main__":
    main()
