"""How long a page of 100 runs takes among 100,000 runs with 10 params, 10 metrics and 5 tags each.

python bench/search.py [RUNS] [--url postgresql://…]      without a URL: SQLite in a temporary folder

Each search is a call of the service: parse, search, load the runs' records. The first answer of each is compared with
a plain scan of the same numbers in Python before any time is taken.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Location, Scope, Settings
from loopwright.store import Stores, open_stores
from loopwright.track import RunService, tables
from loopwright.track.keys import intern_keys
from loopwright.track.lifecycle import ensure_experiment
from loopwright.track.revisions import touch
from loopwright.track.values import to_bits
from loopwright.workspace import MIGRATIONS

PARAMS = ["lr", *(f"p{number}" for number in range(1, 10))]
METRICS = ["acc", *(f"m{number}" for number in range(1, 10))]
TAGS = ["team", *(f"t{number}" for number in range(1, 5))]
RATES = ["0.1", "0.01", "0.001", "0.3", "0.03", "0.003", "1.0", "0.0001", "0.5", "0.05"]
FILTER = "metrics.acc > 0.9 and params.lr = '0.1'"
BASE_US = 1_700_000_000_000_000
REPEATS = 15


class Facts(msgspec.Struct):
    """What the plain scan needs of a run."""

    number: int
    id: str
    started_us: int
    acc: float
    lr: str
    p1: str
    m1: float


def main() -> None:
    """Print a table of milliseconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="?", type=int, default=100_000)
    parser.add_argument("--url", default="")
    parser.add_argument("--keep", default="", metavar="FOLDER", help="keep the workspace here, and use it again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(given.keep or name)
        root.mkdir(exist_ok=True)
        stores = open_stores(Location(root, root / ".loopwright", Settings(db=given.url)), MIGRATIONS)
        started = time.perf_counter()
        facts = fill(stores, given.runs)
        print(f"{given.runs:,} runs stored in {time.perf_counter() - started:.1f} s on {stores.db.dialect}")
        measure(RunService(stores, Scope()), facts)
        stores.close()


def measure(runs: RunService, facts: list[Facts]) -> None:
    """Time searches; refuse to time a wrong answer."""
    matching = [item for item in facts if item.acc > 0.9 and item.lr == "0.1"]
    newest = sorted(matching, key=lambda item: -item.started_us)
    cases = {
        "by the metric, best first": (FILTER, ("metrics.acc DESC",), sorted(newest, key=lambda item: -item.acc)),
        "by the start, newest first": (FILTER, (), newest),
        "by the start, oldest first": (FILTER, ("start_time ASC",), newest[::-1]),
        "by a param": (FILTER, ("params.p1 ASC",), sorted(newest, key=lambda item: item.p1)),
        "by another metric": (FILTER, ("metrics.m1 ASC",), sorted(newest, key=lambda item: item.m1)),
        "nothing asked, newest first": ("", (), sorted(facts, key=lambda item: -item.started_us)),
        "by the metric, no filter": (
            "",
            ("metrics.acc DESC",),
            sorted(facts, key=lambda item: (-item.acc, -item.started_us)),
        ),
        "nothing matches": ("metrics.acc > 0.9 and params.lr = 'none'", (), []),
        "few match": (
            "metrics.acc > 0.9999 and params.lr = '0.1'",
            (),
            [item for item in newest if item.acc > 0.9999],
        ),
    }
    print(f"{len(matching):,} of {len(facts):,} runs match {FILTER}")
    print(f"{'a page of 100':34} {'median ms':>10} {'least ms':>10} {'own CPU ms':>10}")
    for name, (text, order, expected) in cases.items():
        page = runs.search(text, limit=100, order_by=order)
        if [run.id for run in page] != [item.id for item in expected[:100]]:
            raise SystemExit(f"{name}: not the runs that a plain scan finds")
        times, cpu = zip(*(timed(runs, text, order) for _ in range(REPEATS)), strict=True)
        print(f"{name:34} {statistics.median(times):10.1f} {min(times):10.1f} {statistics.median(cpu):10.1f}")


def timed(runs: RunService, text: str, order: tuple[str, ...]) -> tuple[float, float]:
    """Milliseconds of one search, and those of this process's CPU in it (of SQLite's work, too; not of a server's)."""
    started, cpu = time.perf_counter(), time.process_time()
    runs.search(text, limit=100, order_by=order)
    return (time.perf_counter() - started) * 1000, (time.process_time() - cpu) * 1000


def fill(stores: Stores, count: int) -> list[Facts]:
    """Store runs in bulk, unless they are there: through the drivers, as rows that the service would write."""
    with stores.db.begin() as tx:
        experiment = ensure_experiment(stores.db, tx, "default", "bench", stores.clock.now()).id
        keys = intern_keys(stores.db, tx, [*PARAMS, *METRICS, *TAGS])
        there = tx.exec_driver_sql("SELECT count(*) FROM runs").scalar_one() == count
    facts: list[Facts] = []
    for start in range(0, count, 5000):
        numbers = range(start + 1, min(start + 5000, count) + 1)
        made = [_make(number, experiment, keys) for number in numbers]
        facts += [item["facts"] for item in made]
        if not there:
            _insert_all(stores, made)
    if not there:
        settle(stores)
    return facts


def _insert_all(stores: Stores, made: list[dict[str, Any]]) -> None:
    with stores.db.begin() as tx:
        for table in (tables.runs, tables.run_params, tables.run_tags, tables.run_series):
            rows = itertools.chain.from_iterable(item[table.name] for item in made)
            if table is tables.run_series and stores.db.dialect == "postgresql":  # as of runs that have ended
                rows = ({**row, "found_value": row["last_value"]} for row in rows)
            insert(tx, table.name, rows)
        touch(tx, [item["facts"].number for item in made])


def settle(stores: Stores) -> None:
    """What PostgreSQL's autovacuum does within minutes. SQLite is left as it is in use: without statistics."""
    if stores.db.dialect == "postgresql":
        with stores.db._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


class Drawn(msgspec.Struct):
    """A run as chance made it: what every tracker is given to keep."""

    number: int
    id: str
    started_us: int
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def draw(number: int) -> Drawn:
    """The run of a number: seeded by it, so that every database holds the same."""
    chance = random.Random(number)
    started = BASE_US + number * 1_000_000 + chance.randrange(900_000)
    params = {"lr": chance.choice(RATES), **{key: str(chance.randrange(20)) for key in PARAMS[1:]}}
    metrics = {key: chance.random() for key in METRICS}
    tags = {"team": f"team {chance.randrange(50)}", **{key: f"{key} {chance.randrange(5)}" for key in TAGS[1:]}}
    return Drawn(number, f"{number:032x}", started, params, metrics, tags)


def _make(number: int, experiment: str, keys: dict[str, int]) -> dict[str, Any]:
    drawn = draw(number)
    row = {
        "seq": number, "id": drawn.id, "project": "default", "experiment_id": experiment, "name": f"run {number}",
        "kind": "run", "status": "finished", "actor": "user:local", "parent": "", "error": "",
        "started_at": drawn.started_us, "ended_at": drawn.started_us + 500_000,
    }  # fmt: skip
    params, metrics = drawn.params, drawn.metrics
    return {
        "facts": Facts(number, drawn.id, drawn.started_us, metrics["acc"], params["lr"], params["p1"], metrics["m1"]),
        "runs": [row],
        "run_params": [_text(number, keys[key], value) for key, value in params.items()],
        "run_tags": [_text(number, keys[key], value) for key, value in drawn.tags.items()],
        "run_series": [_series(number, keys[key], value) for key, value in metrics.items()],
    }


def _text(seq: int, key_id: int, value: str) -> dict[str, Any]:
    return {"run_seq": seq, "key_id": key_id, "value": value, "head": value}


def _series(seq: int, key_id: int, value: float) -> dict[str, Any]:
    last = {"last_step": 0, "last_at": BASE_US, "last_bits": to_bits(value), "last_value": value}
    return {"run_seq": seq, "key_id": key_id, **last}


def insert(tx: Any, table: str, rows: Iterator[dict[str, Any]]) -> None:
    """Add rows by the driver's fastest way: COPY, or one prepared statement."""
    first = next(rows)
    columns = ", ".join(first)
    values = (tuple(row.values()) for row in itertools.chain([first], rows))
    driver = tx.connection.driver_connection
    if tx.dialect.name == "postgresql":
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for row in values:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(first))
    driver.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)


if __name__ == "__main__":
    main()
