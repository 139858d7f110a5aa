"""The rows of the table: what is done with a server, and the figures that it gives."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc as grpcio
import msgspec
from load import GRPC, Flood, Load, build_flood, flood_command, grpc, http
from same import MODEL, Same, grpc_request, read_grpc
from sides import SIDES, Running, Side, pinned, running

# isort: split
from figures import OURS, Line

from loopwright.serve import read_predictions

REST_S = 3.0
OVERLOADED = 2.0
WATCH_S = 1.0
FULL = 0.05


class Sizes(msgspec.Struct, frozen=True):
    """How long each work is done, and how often."""

    rounds: int = 3
    seconds: int = 5
    overload_s: int = 60
    overload_rps: float = 0.0  # instead of twice what can be answered


class Asked(msgspec.Struct):
    """A round of a side: its server, what is the same for all, and how long to measure."""

    server: Running
    same: Same
    sizes: Sizes

    def http(self, count: int, connections: int, binary: bool = False) -> Load:
        """HTTP requests of that many rows."""
        return http(self.server, self.same, count, connections, self.sizes.seconds, binary)

    def line(self, work: str, found: Load, goal: float = 0.0, ratio: float = 0.0, side: str = "") -> Line:
        """A rate as a figure."""
        bound = found.cost.bound_by() if found.cost else ""
        name = side or self.server.name
        return Line(work, name, found.rate, "requests/s", goal, least_ratio=ratio, bound_by=bound, cost=found.cost)

    def latency(self, work: str, figure: float, found: Load, goal: float = 0.0) -> Line:
        """A latency as a figure."""
        return Line(work, self.server.name, figure, "ms", goal, at_least=False, cost=found.cost)


def start(asked: Asked) -> list[Line]:
    """From the start of the command to the first right answer; memory of all its processes a while later."""
    time.sleep(REST_S)
    memory, name = asked.server.memory_mb(), asked.server.name
    told = f"{len(memory)} processes"
    return [
        Line("start to ready", name, asked.server.start_s, "s", 1, False),
        Line("memory with one model", name, sum(memory), "MB", 120, False, bound_by=told),
    ]


def one(asked: Asked) -> list[Line]:
    """One row a request on 64 connections; afterwards our log must hold all that was answered."""
    ours = asked.server.name == OURS
    before = logged(asked.server.folder / "journal") if ours else 0
    found = asked.http(1, 64)
    if ours and (kept := logged(asked.server.folder / "journal") - before) < found.requests:
        raise RuntimeError(f"{found.requests} rows were answered, and {kept} are in the prediction log")
    work = "1 row JSON, 64 connections"
    return [
        asked.line(work, found, 40_000, 40),
        asked.latency(f"{work}: p50", found.p50_ms, found),
        asked.latency(f"{work}: p99", found.p99_ms, found, 5),
    ]


def logged(journal: Path) -> int:
    """How many predictions the log holds."""
    cursor, count = None, 0
    while True:
        batch, cursor = read_predictions(journal, cursor, 50_000)
        if not batch:
            return count
        count += len(batch)


def single(asked: Asked) -> list[Line]:
    """One row a request on one connection."""
    found = asked.http(1, 1)
    return [asked.latency("1 row JSON, 1 connection: p50", found.p50_ms, found, 0.15)]


def many(asked: Asked) -> list[Line]:
    """32 rows a request on 16 connections."""
    return [asked.line("32 rows JSON, 16 connections", asked.http(32, 16), 7_000, 10)]


def binary(asked: Asked) -> list[Line]:
    """32 rows as binary tensors; ours also in JSON just before, to compare with."""
    work = "32 rows binary tensors, 16 connections"
    before = (
        asked.line(work, asked.http(32, 16), ratio=5, side="loopwright, JSON") if _ours(asked.server.side) else None
    )
    line = asked.line(work, asked.http(32, 16, binary=True))
    return [line, before] if before else [line]


def calls(asked: Asked) -> list[Line]:
    """One row a gRPC call, 16 streams on one connection; the answer is compared first."""
    rows = asked.same.part(0, 1)
    with grpcio.insecure_channel(asked.server.grpc) as channel:
        ask = channel.unary_unary(GRPC)
        asked.same.right(read_grpc(ask(grpc_request(rows), timeout=30, wait_for_ready=True)), 0, 1)
    found = grpc(asked.server, rows, 16, asked.sizes.seconds)
    work = "gRPC 1 row, 16 streams"
    ratio = 3 if asked.server.name.startswith("mlserver") else 0
    return [asked.line(work, found, ratio=ratio), asked.latency(f"{work}: p99", found.p99_ms, found)]


def workers(same: Same, sizes: Sizes) -> list[Line]:
    """Ours with two workers on two cores, and with one on one of them."""
    lines = []
    for count, name in ((1, "loopwright, 1 worker"), (2, OURS)):
        with running(SIDES[OURS], same, count) as server:
            asked = Asked(server, same, sizes)
            for rows, connections in ((1, 64), (32, 16)):
                work = f"2 workers, {rows} row{'s' * (rows > 1)} JSON, {connections} connections"
                line = asked.line(work, asked.http(rows, connections), ratio=0 if count == 2 else 1.7, side=name)
                if server.load_core is None:
                    line.bound_by = f"the load generator has no core of its own; {line.bound_by}"
                lines.append(line)
    return lines


def overload(same: Same, sizes: Sizes) -> list[Line]:
    """Ours, asked for twice what it can answer, or at a given rate; normal is half of what it can answer, by the same
    generator."""
    with running(SIDES[OURS], same) as server:
        able = http(server, same, 1, 64, max(sizes.seconds, 2)).rate
        program = build_flood(same.bundle.parent)
        short = max(min(sizes.overload_s // 4, 10), 2)
        normal, _ = flood(program, server, same, able / 2, short)
        rate = sizes.overload_rps or able * OVERLOADED
        found, memory = flood(program, server, same, rate, sizes.overload_s)
    if found.offered < 0.9 * rate and found.full < FULL:
        raise RuntimeError(f"the load generator reached only {found.offered:,.0f} requests/s of {rate:,.0f}")
    work = f"{sizes.overload_rps:,.0f}/s" if sizes.overload_rps else "200 % load"
    return _overload_lines(work, able, normal, found, memory, sizes.overload_s)


def _overload_lines(
    work: str, able: float, normal: Flood, found: Flood, memory: list[float], seconds: int
) -> list[Line]:
    answered = found.accepted + found.refused
    told = f"{found.offered:,.0f} requests/s offered, {able:,.0f} possible; {found.unsent:,} found no free connection"
    told += (
        f" within a second; none was free in {found.full:.0%} of the generator's turns" if found.full >= FULL else ""
    )
    p99 = f"{work}: p99 of what was accepted"
    grown = max(memory[len(memory) // 3 :]) / statistics.median(memory[: max(len(memory) // 3, 1)])
    if not found.accepted or not normal.accepted:
        raise RuntimeError(f"nothing was accepted: {normal}, {found}")
    lines = [
        Line(p99, OURS, found.accepted_p99_ms, "ms", at_least=False, bound_by=told),
        Line(p99, "loopwright, 50 % load", normal.accepted_p99_ms, "ms", at_least=False, least_ratio=0.33),
        Line(f"{work}: answered with 200", OURS, found.accepted / seconds, "requests/s", able / 2),
        Line("50 % load: share of 503", OURS, 100 * normal.refused / max(normal.sent, 1), "%", 0.1, False),
        Line(f"{work}: share of 503", OURS, 100 * found.refused / max(answered, 1), "%", 1),
        Line(f"{work}: memory, last two thirds against the first", OURS, 100 * grown, "%", 105, False),
    ]
    if found.refused:
        lines.append(Line(f"{work}: p99 of 503", OURS, found.refused_p99_ms, "ms", 5, at_least=False))
        lines.append(Line(f"{work}: p50 of 503", OURS, found.refused_p50_ms, "ms", 5, at_least=False))
    return lines


def flood(program: Path, server: Running, same: Same, rate: float, seconds: int) -> tuple[Flood, list[float]]:
    """An open loop of one-row requests at that rate, and the server's memory in MB meanwhile, once a second."""
    command = flood_command(program, server, [same.part(number, 1) for number in range(64)], rate, seconds)
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


def _ours(side: Side) -> bool:
    return not side.peer


Work = Callable[[Asked], list[Line]]
SHARED: dict[str, tuple[Work, Callable[[Side], bool]]] = {
    "start": (start, lambda side: True),
    "one": (one, lambda side: True),
    "single": (single, lambda side: True),
    "many": (many, lambda side: True),
    "binary": (binary, lambda side: side.binary),
    "grpc": (calls, lambda side: side.grpc),
}
OWN: dict[str, Callable[[Same, Sizes], list[Line]]] = {"workers": workers, "overload": overload}
__all__ = ["MODEL", "OWN", "SHARED", "Asked", "Sizes"]
