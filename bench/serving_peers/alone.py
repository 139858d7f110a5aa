"""The rows of the table that only we have: several workers, and more than can be answered."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from load import Flood, build_flood, flood_command, http
from same import Same, make_python, make_same
from sides import SIDES, Running, pinned, running
from works import Asked, Sizes

# isort: split
from figures import OURS, Line

MANY_TREES = 5_000
OVERLOADED = 2.0
WATCH_S = 1.0
FULL = 0.05


def workers(same: Same, sizes: Sizes) -> list[Line]:
    """Ours with two workers on two cores, and with one on one of them.

    With 32 connections each of two workers has as many as fill its turns, and one has no more to gain from them. Of
    many trees the load generator needs little, which has to share the two cores.
    """
    heavy = make_same(same.bundle.parent / "many-trees", MANY_TREES)
    kinds = [("", same, ((1, 64), (32, 32))), (f", {MANY_TREES:,} trees", heavy, ((32, 32),))]
    return [line for kind in kinds for count in (1, 2) for line in _with_workers(count, *kind, sizes)]


def _with_workers(
    count: int, model: str, same: Same, works: tuple[tuple[int, int], ...], sizes: Sizes
) -> Iterator[Line]:
    with running(SIDES[OURS], same, count) as server:
        asked = Asked(server, same, sizes)
        for rows, connections in works:
            work = f"2 workers, {rows} row{'s' * (rows > 1)} JSON{model}, {connections} connections"
            found = asked.http(rows, connections)
            name, ratio = (OURS, 0) if count == 2 else ("loopwright, 1 worker", 1.7)
            line = asked.line(work, found, ratio=ratio, side=name)
            if found.cost and server.load_core is None:
                line.bound_by = (
                    f"the load generator took {found.cost.client:.2f} of the workers' cores; {line.bound_by}"
                )
            yield line


class Kind(msgspec.Struct, frozen=True):
    """What twice too much arrives of.

    Attributes:
        name: as tables show it.
        rows: in a request.
        connections: over which it is found out how many a second can be answered.
        share: of the seconds of overload that were asked for.
    """

    name: str
    same: Same
    rows: int
    connections: int
    share: float = 1.0


def overload(same: Same, sizes: Sizes) -> list[Line]:
    """Ours, asked for twice what it can answer, or at a given rate; normal is half of what it can answer, by the same
    generator. One row costs hardly more to answer than to refuse; 32 rows ten times as much."""
    kinds = [Kind("32 rows", same, 32, 16), Kind("1 row", same, 1, 64, 0.25)]
    return [line for kind in kinds for line in _overload(kind, sizes)]


def slow(same: Same, sizes: Sizes) -> list[Line]:
    """The same with models that take longer: many trees, and one in Python in a process of its own."""
    heavy = make_same(same.bundle.parent / "many-trees", MANY_TREES)
    python = make_python(same.bundle.parent / "python")
    kinds = [Kind(f"32 rows, {MANY_TREES:,} trees", heavy, 32, 16), Kind("1 row, a Python model", python, 1, 16)]
    return [line for kind in kinds for line in _overload(kind, sizes)]


def _overload(kind: Kind, sizes: Sizes) -> list[Line]:
    same, seconds = kind.same, max(int(sizes.overload_s * kind.share), 5)
    with running(SIDES[OURS], same) as server:
        able = http(server, same, kind.rows, kind.connections, max(sizes.seconds, 2)).rate
        program = build_flood(same.bundle.parent)
        short = max(min(seconds // 4, 10), 2)
        normal, _ = flood(program, server, kind, able / 2, short)
        rate = sizes.overload_rps or able * OVERLOADED
        found, memory = flood(program, server, kind, rate, seconds)
    if found.offered < 0.9 * rate and found.full < FULL:
        raise RuntimeError(f"the load generator reached only {found.offered:,.0f} requests/s of {rate:,.0f}")
    load = f"{sizes.overload_rps:,.0f}/s" if sizes.overload_rps else "200 % load"
    return _lines(kind.name, f"{kind.name}, {load}", able, normal, found, memory, seconds)


def _lines(
    name: str, work: str, able: float, normal: Flood, found: Flood, memory: list[float], seconds: int
) -> list[Line]:
    answered = found.accepted + found.refused
    told = f"{found.offered:,.0f} requests/s offered, {able:,.0f} possible; {found.unsent:,} found no free connection"
    told += (
        f" within a second; none was free in {found.full:.0%} of the generator's turns" if found.full >= FULL else ""
    )
    told += f"; the generator waited for its core for {found.waited:.1%} of the time" if found.waited >= 0 else ""
    p99 = f"{work}: p99 of what was accepted"
    grown = max(memory[len(memory) // 3 :]) / statistics.median(memory[: max(len(memory) // 3, 1)])
    if not found.accepted or not normal.accepted:
        raise RuntimeError(f"nothing was accepted: {normal}, {found}")
    lines = [
        Line(p99, OURS, found.accepted_p99_ms, "ms", at_least=False, bound_by=told),
        Line(p99, "loopwright, 50 % load", normal.accepted_p99_ms, "ms", at_least=False, least_ratio=0.33),
        Line(f"{work}: answered with 200", OURS, found.accepted / seconds, "requests/s", able / 2),
        Line(f"{name}, 50 % load: share of 503", OURS, 100 * normal.refused / max(normal.sent, 1), "%", 0.1, False),
        Line(f"{work}: share of 503", OURS, 100 * found.refused / max(answered, 1), "%"),
        Line(f"{work}: memory, last two thirds against the first", OURS, 100 * grown, "%", 105, False),
    ]
    if found.refused:
        lines.append(Line(f"{work}: p99 of 503", OURS, found.refused_p99_ms, "ms", 5, at_least=False))
        lines.append(Line(f"{work}: p50 of 503", OURS, found.refused_p50_ms, "ms", 5, at_least=False))
    return lines


def flood(program: Path, server: Running, kind: Kind, rate: float, seconds: int) -> tuple[Flood, list[float]]:
    """An open loop of requests at that rate, and the server's memory in MB meanwhile, once a second."""
    rows = [kind.same.part(number, kind.rows) for number in range(64)]
    command = flood_command(program, server, rows, rate, seconds)
    where = [server.load_core] if server.load_core is not None else []
    with _watched(server) as memory:
        done = subprocess.run(pinned(where, command) if where else command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the open-loop generator fails: {done.stderr[-300:]}")
    seen = msgspec.convert(json.loads(done.stdout), Flood)
    if seen.others or seen.closed or seen.silent:
        raise RuntimeError(f"of {seen.sent} requests {_lost(seen, server)}: {done.stderr[:300]}")
    return seen, memory


def _lost(seen: Flood, server: Running) -> str:
    """What became of those that had no answer, and what the server has told of itself meanwhile."""
    told = f"{seen.others} had another status, {seen.closed} lost their connection, {seen.silent} were not answered"
    lines = (server.folder / "server.log").read_text(errors="replace").splitlines()
    of_workers = [line for line in lines if line.startswith("worker ")]
    return f"{told}; the server says: {of_workers[-5:] or 'nothing'}"


@contextlib.contextmanager
def _watched(server: Running) -> Iterator[list[float]]:
    over, found = threading.Event(), [sum(server.memory_mb())]

    def watch() -> None:
        while not over.wait(WATCH_S):
            found.append(sum(server.memory_mb()))

    thread = threading.Thread(target=watch, name="memory-watch")
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


OWN: dict[str, Callable[[Same, Sizes], list[Line]]] = {"workers": workers, "overload": overload}
ASKED: dict[str, Callable[[Same, Sizes], list[Line]]] = {"slow": slow}
"""Rows that are measured only where they are named."""
