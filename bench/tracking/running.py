"""How a row is run: how much is done, in which order, how often, and what happens to a side that fails."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from cost import Meter
from databases import Databases
from figures import OURS, Line, best
from peers import HERE, Server

PATIENCE_S = 30.0
HANGING_S = 300
LONG_S = 0.3
MANY = 200
Task = Callable[[], list[Line]]


class Sizes(msgspec.Struct, frozen=True):
    """How much is done in one round: by us, and by a side that would take minutes for as much."""

    rounds: int = 3
    calls: int = 600
    slow_calls: int = 100
    raw_each: int = 1_500
    slow_raw_each: int = 40
    batches: int = 60
    slow_batches: int = 4
    native: int = 100_000
    slow_native: int = 5_000
    created: int = 1_667
    slow_created: int = 30
    found_among: int = 100_000
    slow_found_among: int = 5_000
    searches: int = 15
    slow_searches: int = 5
    points: int = 1_000_000
    slow_points: int = 100_000
    local_points: int = 50_000

    @classmethod
    def small(cls) -> Sizes:
        """Enough to see that everything works."""
        return cls(1, 60, 20, 100, 10, 5, 2, 5_000, 1_000, 12, 4, 1_000, 500, 3, 2, 80_000, 30_000, 3_000)


class Bench(msgspec.Struct):
    """One run of the program: what every row needs."""

    sizes: Sizes
    databases: Databases
    sides: tuple[str, ...]
    failures: list[str] = []
    servers: dict[str, Server] = {}

    def report(self, why: str) -> None:
        """Name a side that has no figure, and why."""
        self.failures.append(why)
        print(f"no figure: {why}", file=sys.stderr, flush=True)

    def rounds(self, tasks: Mapping[str, Task], most: int = 0) -> list[Line]:
        """Run each side's task, the sides in turn, in as many rounds as the sizes say, or `most`; the best of each.

        The order is turned round each time. A side that takes longer than PATIENCE_S is not asked again. A round in
        which it fails, or reads something else than it wrote, is reported, and has no figure.
        """
        found: list[list[Line]] = []
        left = dict(tasks)
        for number in range(min(self.sizes.rounds, most or self.sizes.rounds)):
            for side in list(left) if number % 2 == 0 else list(left)[::-1]:
                started = time.perf_counter()
                try:
                    found.append(left[side]())
                except Exception as error:  # noqa: BLE001 - whatever a peer does wrong, the other sides have figures
                    self.report(f"{side}, round {number + 1}: {type(error).__name__}: {error}")
                if time.perf_counter() - started > PATIENCE_S:
                    del left[side]
        return best(found)

    def meter(self, server: Server | None = None, client: int = 0) -> Meter:
        """Counts what a server, the database server and a client (this process by default) use."""
        database = self.databases.pid if server else 0
        return Meter(server.pid if server else 0, database, client)


def sized(name: str, ours: int, theirs: int) -> int:
    """How much a side does."""
    return ours if name == OURS else theirs


def repeated(ask: Callable[[], bytes], least: int) -> tuple[list[bytes], float]:
    """Ask so often, and for LONG_S at least, for the counters to count something: the answers, and the median in ms."""
    answers: list[bytes] = []
    times: list[float] = []
    while len(times) < least or (sum(times) < LONG_S and len(times) < MANY):
        started = time.perf_counter()
        answers.append(ask())
        times.append(time.perf_counter() - started)
    return answers, statistics.median(times) * 1000


def program(python: Path, name: str, *words: object) -> dict[str, float]:
    """What a program beside this one prints in an environment of its own.

    Raises:
        RuntimeError: it fails, or takes longer than HANGING_S.
    """
    command = [str(python), str(HERE / name), *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGING_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name} {' '.join(map(str, words))} took longer than {HANGING_S} s") from None
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(map(str, words))}: {done.stderr[-600:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


Row = Callable[[Bench], list[Line]]
Json = Any
