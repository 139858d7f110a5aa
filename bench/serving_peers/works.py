"""The rows of the table that all sides share: what is done with a server, and the figures that it gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc as grpcio
import msgspec
from load import GRPC, Load, grpc, http
from same import Same, grpc_request, read_grpc
from sides import Running, Side

# isort: split
from figures import OURS, Line

from loopwright.serve import read_predictions

REST_S = 3.0


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
__all__ = ["SHARED", "Asked", "Sizes"]
