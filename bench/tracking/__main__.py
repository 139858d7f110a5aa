"""Tracking side by side with its peers, in one run: python bench/tracking [--only ROW] [--quick] [--db postgresql]

Each row starts every side on an empty place, does the same work, reads back what was stored, and only then tells a
figure. A side that cannot be run is named with the reason and has no figure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import rows
from rows import ROWS, Line, Sizes

Table = list[tuple[str, ...]]


@contextlib.contextmanager
def databases(kind: str) -> Iterator[Callable[[str], str]]:
    """What gives each server an empty database of its own: nothing for SQLite, else one on a private server."""
    if kind == "sqlite":
        yield lambda name: ""
        return
    from tests.servers_postgres import _execute, _url_of, start_postgres

    with tempfile.TemporaryDirectory(prefix="bench-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = start_postgres(Path(folder))

        def fresh(_name: str) -> str:
            database = f"bench_{uuid.uuid4().hex}"
            _execute(server.url, f"CREATE DATABASE {database}")
            return _url_of(server.url, database)

        try:
            yield fresh
        finally:
            subprocess.run(server.stop, check=False, stdout=subprocess.DEVNULL, timeout=60)


def table(lines: list[Line]) -> Table:
    """A line a peer, with our figure, the ratio (above 1: we are better), the goal and whether it was reached."""
    shown: Table = [("work", "ours", "peer", "theirs", "ratio", "goal", "reached", "bound by")]
    ours = {line.work: line for line in lines if line.side == "loopwright"}
    for line in lines:
        mine = ours.get(line.work)
        if mine is None or line is mine:
            continue
        ratio = mine.figure / line.figure if mine.at_least else line.figure / mine.figure
        goals, reached = [], []
        if mine.goal:
            goals.append(f"{'>=' if mine.at_least else '<'} {number(mine.goal)} {mine.unit}")
            reached.append(mine.figure >= mine.goal if mine.at_least else mine.figure < mine.goal)
        if line.least_ratio:
            goals.append(f">= {line.least_ratio:g} x")
            reached.append(ratio >= line.least_ratio)
        verdict = ("yes" if all(reached) else "NO") if goals else ""
        unit = f" {line.unit}"
        shown.append(
            (line.work, number(mine.figure) + unit, line.side, number(line.figure) + unit, f"{ratio:.1f}",
             ", ".join(goals), verdict, mine.bound_by)
        )  # fmt: skip
    return shown


def number(value: float) -> str:
    """A figure with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(shown: Table) -> None:
    """Print as a Markdown table, which bench/README.md can take as it is."""
    for place, row in enumerate(shown):
        print("| " + " | ".join(row) + " |")
        if place == 0:
            print("|" + "---|" * len(row))


def main() -> int:
    """Run the rows; 1 if one could not be measured. A goal that is missed is told, and is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast it is")
    parser.add_argument("--db", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--sides", default="", help="servers to compare, by commas: " + ", ".join(rows.SERVERS))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.sides:
        rows.SERVERS = tuple(given.sides.split(","))
    found: list[Line] = []
    failed = False
    with databases(given.db) as db:
        for name in given.only or ROWS:
            print(f"measuring {name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
            try:
                found += ROWS[name](Sizes.of(given.quick), db)
            except RuntimeError as error:
                failed = True
                print(f"{name} was not measured: {error}", file=sys.stderr)
    if given.json:
        print(json.dumps([msgspec.structs.asdict(line) for line in found]))
    else:
        show(table(found))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
