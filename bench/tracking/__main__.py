"""Tracking side by side with its peers, in one run: python bench/tracking [--only ROW] [--quick] [--db postgresql]

Each row starts every side on an empty place, does the same work in several rounds with the sides in turn, reads back
what was stored, and only then tells the best figure of each. A side that cannot be run is named with the reason and has
no figure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from cost import machine
from databases import databases
from figures import Line, comparison, details, show
from local import TRACKERS, native
from peers import HERE, environment
from reading import history
from rows import ROWS
from running import Bench, Row, Sizes
from searching import search

SERVERS = ("loopwright", "mlflow", "mlflow best", "fasttrackml")
ALL: dict[str, Row] = {**ROWS, "native": native, "search": search, "history": history}


def measure(bench: Bench, names: list[str]) -> list[Line]:
    """The rows' figures, with what each took told on the way."""
    found: list[Line] = []
    for name in names:
        started, load = time.perf_counter(), os.getloadavg()[0]
        print(f"{name}: load {load:.1f} before it", file=sys.stderr, flush=True)
        try:
            found += ALL[name](bench)
        except RuntimeError as error:
            bench.report(f"the row {name}: {error}")
        print(f"{name}: took {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


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


def main() -> int:
    """Run the rows; 1 if a side could not be measured. A goal that is missed is told, and is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted(ALL), metavar="ROW", help=", ".join(ALL))
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast it is")
    parser.add_argument("--db", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=0, help="how often each side does each work; the best counts")
    parser.add_argument("--sides", default=",".join(SERVERS), help="servers to compare, by commas; all by default")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write that JSON object there, too")
    given = parser.parse_args()
    # Where it is set, every process compiles again what it imports: that would measure the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sizes = Sizes.small() if given.quick else Sizes()
    sizes = msgspec.structs.replace(sizes, rounds=given.rounds or sizes.rounds)
    about: dict[str, Any] = {"machine": machine(), "database": given.db, "peers": versions()}
    about |= {"rounds": sizes.rounds, "quick": given.quick}
    started = time.perf_counter()
    with databases(given.db) as places:
        bench = Bench(sizes, places, tuple(given.sides.split(",")))
        prepare(bench)
        lines = measure(bench, given.only or list(ALL))
    about |= {"took_s": round(time.perf_counter() - started), "no_figure": bench.failures}
    everything = json.dumps({**about, "figures": msgspec.to_builtins(lines)})
    if given.save:
        given.save.write_text(everything)
    if given.json:
        print(everything)
    else:
        print(" ".join(f"{key}: {value}" for key, value in about.items()), end="\n\n")
        show(comparison(lines))
        print()
        show(details(lines))
    return int(bool(bench.failures))


if __name__ == "__main__":
    raise SystemExit(main())
