"""Serving side by side with its peers: python bench/serving_peers [--only ROW] [--sides NAME,...] [--quick]

Every side serves the same model on one core, and a compiled load generator has another. The answers of each are
compared with the model's own before a time is told; a side that cannot be run is named with the reason, and has no
figure.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from alone import ASKED, OWN
from load import missing
from same import HERE, Same, make_same
from sides import SIDES, Side, prepare, running
from works import SHARED, Asked, Sizes

# isort: split
from cost import machine
from figures import Line, best, comparison, details, show

DISTURBING = 0.2


class Bench(msgspec.Struct):
    """One run of the program: what is measured, and what could not be."""

    same: Same
    sizes: Sizes
    works: list[str]
    failures: list[str] = []

    def report(self, why: str) -> None:
        """Name what has no figure, and why."""
        self.failures.append(why)
        print(f"no figure: {why}", file=sys.stderr, flush=True)

    def ready(self, sides: list[Side]) -> list[Side]:
        """Those whose environments are there, or could be made."""
        found = []
        for side in sides:
            try:
                prepare(side, self.same.bundle.parent)
                found.append(side)
            except Exception as error:  # noqa: BLE001 - whatever a peer's installation does, the others have figures
                self.report(f"{side.name} cannot be prepared: {error} {getattr(error, 'stderr', b'')[-400:]!r}")
        return found

    def rounds(self, sides: list[Side]) -> list[Line]:
        """Every side in turn, one at a time, in rounds whose order is turned round; the best of each counts."""
        found: list[list[Line]] = []
        for number in range(self.sizes.rounds):
            for side in sides if number % 2 == 0 else sides[::-1]:
                load, started = os.getloadavg()[0], time.perf_counter()
                found.extend(self.side(side, number + 1))
                took = time.perf_counter() - started
                print(f"{side.name}, round {number + 1}: {took:.0f} s, load {load:.1f}", file=sys.stderr, flush=True)
        return best(found)

    def side(self, side: Side, number: int) -> Iterator[list[Line]]:
        """The figures of one side in one round: it is started once, and does all works that it can."""
        wanted = [name for name in self.works if name in SHARED and SHARED[name][1](side)]
        if not wanted:
            return
        try:
            with running(side, self.same) as server:
                for name in wanted:
                    yield from self.work(side, name, number, Asked(server, self.same, self.sizes))
        except Exception as error:  # noqa: BLE001 - the other sides have figures
            self.report(f"{side.name}, round {number}: {type(error).__name__}: {error}")

    def work(self, side: Side, name: str, number: int, asked: Asked) -> Iterator[list[Line]]:
        """The figures of one work, unless something is wrong with it."""
        try:
            yield SHARED[name][0](asked)
        except Exception as error:  # noqa: BLE001 - the other works have figures
            self.report(f"{side.name}, {name}, round {number}: {type(error).__name__}: {error}")

    def own(self) -> Iterator[Line]:
        """The works that only we do."""
        alone = OWN | ASKED
        for name in [name for name in self.works if name in alone]:
            try:
                yield from alone[name](self.same, self.sizes)
            except Exception as error:  # noqa: BLE001 - the other works have figures
                self.report(f"{name}: {type(error).__name__}: {error}")


def disturbed(lines: list[Line]) -> str:
    """How many figures were taken while other work had a part of the machine."""
    known = [line.cost for line in lines if line.cost]
    others = [cost for cost in known if cost.others > DISTURBING]
    if not others:
        return "no other work had a part of the machine"
    return f"DISTURBED: other work used more than {DISTURBING} cores during {len(others)} of {len(known)} figures"


def pins(sides: list[Side]) -> dict[str, list[str]]:
    """What the peers' environments hold."""
    return {side.peer: (HERE / f"{side.peer}.txt").read_text().split() for side in sides if side.peer}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*SHARED, *OWN, *ASKED]
    parser.add_argument("--only", action="append", choices=every, metavar="ROW", help=", ".join(every))
    parser.add_argument("--sides", default=",".join(SIDES), help="by commas; all by default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one round of a second: whether it works, not how fast")
    parser.add_argument("--rounds", type=int, default=0, help="how often each side does each work; the best counts")
    parser.add_argument("--seconds", type=int, default=0, help="of load in each round")
    parser.add_argument("--overload-s", type=int, default=0, help="seconds of overload; 60 by default")
    parser.add_argument("--overload-rps", type=float, default=0.0, help="its rate; by default twice what is possible")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write that JSON object there, too")
    given = parser.parse_args()
    if unknown := [name for name in given.sides.split(",") if name not in SIDES]:
        parser.error(f"there is no side {unknown[0]!r}; there are {', '.join(SIDES)}")
    return given


def sizes(given: argparse.Namespace) -> Sizes:
    """How much is done."""
    usual = Sizes(1, 1, 5) if given.quick else Sizes()
    return Sizes(
        given.rounds or usual.rounds,
        given.seconds or usual.seconds,
        given.overload_s or usual.overload_s,
        given.overload_rps,
    )


def main() -> int:
    """Run the rows; 1 if a side could not be measured. A goal that is missed is told, and is no failure."""
    given = arguments()
    if absent := missing():
        sys.exit(f"not installed: {', '.join(absent)}")
    # A stop ends the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Where it is set, every process compiles again what it imports: that would measure the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    started, wanted = time.perf_counter(), [SIDES[name] for name in given.sides.split(",")]
    about: dict[str, Any] = {"machine": machine(), "peers": pins(wanted), **msgspec.to_builtins(sizes(given))}
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        bench = Bench(make_same(Path(folder)), sizes(given), given.only or [*SHARED, *OWN])
        shared = any(name in SHARED for name in bench.works)
        lines = bench.rounds(bench.ready(wanted)) if shared else []
        lines += bench.own()
    about |= {"quick": given.quick, "took_s": round(time.perf_counter() - started), "disturbed": disturbed(lines)}
    about["no_figure"] = [" ".join(why.split())[:600] for why in bench.failures]
    tell(given, about, lines)
    return int(bool(bench.failures))


def tell(given: argparse.Namespace, about: dict[str, Any], lines: list[Line]) -> None:
    """Print the tables, or everything as JSON."""
    everything = json.dumps({**about, "figures": msgspec.to_builtins(lines)})
    if given.save:
        given.save.write_text(everything)
    if given.json:
        print(everything)
        return
    print("; ".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    show(comparison(lines))
    print()
    show(details(lines))


if __name__ == "__main__":
    raise SystemExit(main())
