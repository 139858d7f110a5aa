"""Tracking side by side with its peers, in one run: python bench/tracking [--only ROW] [--quick] [--db postgresql]

Every side starts on an empty place and does the same work in several rounds, the sides in turn; what was stored is read
back, and only then the best figure of each is told. A side that cannot be run is named with the reason and has no
figure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cost import machine
from databases import databases
from figures import Line, comparison, details, show
from local import TRACKERS, native
from peers import HERE, environment
from reading import history
from rows import ROWS, servers_of
from running import Bench, Row, Sizes
from searching import search

SERVERS = ("loopwright", "mlflow", "mlflow best", "fasttrackml")
ALL: dict[str, Row] = {**ROWS, "native": native, "search": search, "history": history}
SHARED = ("client", "raw", "batch", "create")
DISTURBING = 0.2


def measure(bench: Bench, names: list[str]) -> list[Line]:
    """The rows' figures; rows that only write small things share their servers, which take half a minute to start."""
    found = {name: row(bench, name) for name in names if name not in SHARED}
    shared = [name for name in names if name in SHARED]
    if shared:
        with contextlib.suppress(RuntimeError), servers_of(bench) as bench.servers:
            found |= {name: row(bench, name) for name in shared}
        bench.servers = {}
    return [line for name in names for line in found.get(name, [])]


def row(bench: Bench, name: str) -> list[Line]:
    """The figures of a row; the load before it and the time that it took are told on the way."""
    started, load = time.perf_counter(), os.getloadavg()[0]
    print(f"{name}: load {load:.1f} before it", file=sys.stderr, flush=True)
    found: list[Line] = []
    try:
        found = ALL[name](bench)
    except Exception as error:  # noqa: BLE001 - the other rows have figures
        bench.report(f"the row {name}: {type(error).__name__}: {error}")
    took = time.perf_counter() - started
    print(f"{name}: took {took:.0f} s, load {os.getloadavg()[0]:.1f} after it", file=sys.stderr, flush=True)
    return found


def disturbed(lines: list[Line]) -> str:
    """How many figures were taken while other work had a part of the machine."""
    known = [line for line in lines if line.cost]
    others = [line for line in known if line.cost and line.cost.others > DISTURBING]
    if not others:
        return "no other work had a part of the machine"
    return f"DISTURBED: other work used more than {DISTURBING} cores during {len(others)} of {len(known)} figures"


def prepare(bench: Bench) -> None:
    """Make what environments are missing before anything is measured."""
    for name in ("mlflow", "fasttrackml", *TRACKERS):
        try:
            environment(name)
        except (OSError, subprocess.CalledProcessError) as error:
            bench.report(f"the environment of {name} cannot be made: {error}")


def versions() -> dict[str, str]:
    """What the peers are pinned to."""
    names = ("mlflow", "fasttrackml", *TRACKERS)
    pins = [(HERE / f"{name}.txt").read_text().split() for name in names]
    return dict(line[0].split("==") for line in pins)


def words(about: dict[str, Any]) -> Iterator[str]:
    """What the figures were taken on, with what, and how."""
    for key, value in about.items():
        inner = value.items() if isinstance(value, dict) else ((key, value),)
        yield ", ".join(f"{name} {item}" for name, item in inner)


def main() -> int:
    """Run the rows; 1 if a side could not be measured. A goal that is missed is told, and is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted(ALL), metavar="ROW", help=", ".join(ALL))
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast it is")
    parser.add_argument("--db", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=0, help="how often each side does each work; the best counts")
    parser.add_argument("--sides", default=",".join(SERVERS), help="servers to compare, by commas; all by default")
    parser.add_argument("--peer-runs", type=int, default=0, metavar="N", help="among how many runs the peers search")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write that JSON object there, too")
    given = parser.parse_args()
    # A stop ends the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Where it is set, every process compiles again what it imports: that would measure the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sizes = Sizes.small() if given.quick else Sizes()
    sizes = msgspec.structs.replace(
        sizes, rounds=given.rounds or sizes.rounds, slow_found_among=given.peer_runs or sizes.slow_found_among
    )
    about: dict[str, Any] = {"machine": machine(), "database": given.db, "peers": versions()}
    about |= {"rounds": sizes.rounds, "quick": given.quick}
    started = time.perf_counter()
    with databases(given.db) as places:
        bench = Bench(sizes, places, tuple(given.sides.split(",")))
        prepare(bench)
        lines = measure(bench, given.only or list(ALL))
    about |= {"took_s": round(time.perf_counter() - started), "disturbed": disturbed(lines)}
    about["no_figure"] = [" ".join(why.split())[:400] for why in bench.failures]
    everything = json.dumps({**about, "figures": msgspec.to_builtins(lines)})
    if given.save:
        given.save.write_text(everything)
    if given.json:
        print(everything)
    else:
        print("; ".join(words(about)), end="\n\n")
        show(comparison(lines))
        print()
        show(details(lines))
    return int(bool(bench.failures))


if __name__ == "__main__":
    raise SystemExit(main())
