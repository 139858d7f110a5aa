"""A figure, what it cost, and the tables that figures are shown in."""

from __future__ import annotations

import msgspec
from cost import Cost

Table = list[tuple[str, ...]]
OURS = "loopwright"


class Line(msgspec.Struct):
    """One figure of one side.

    `goal` is a bound for our own figures; `least_ratio` one against this peer. `amount` is how much was done, where the
    sides do not do as much: with `scaled`, the ratio compares what one of them takes. `worst` is the worst of `rounds`,
    of which `figure` is the best.
    """

    work: str
    side: str
    figure: float
    unit: str
    goal: float = 0.0
    at_least: bool = True
    least_ratio: float = 0.0
    bound_by: str = ""
    amount: float = 0.0
    thing: str = ""
    scaled: bool = False
    rounds: int = 1
    worst: float = 0.0
    cost: Cost | None = None

    def better_than(self, other: Line) -> bool:
        """Whether this figure is the better of two of the same side and work."""
        return self.figure > other.figure if self.at_least else self.figure < other.figure


def best(rounds: list[list[Line]]) -> list[Line]:
    """The best figure of each side and work, with the worst beside it; in the order in which they first came."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for lines in rounds:
        for line in lines:
            groups.setdefault((line.work, line.side), []).append(line)
    found = []
    for group in groups.values():
        ordered = sorted(group, key=lambda line: line.figure, reverse=group[0].at_least)
        found.append(msgspec.structs.replace(ordered[0], rounds=len(group), worst=ordered[-1].figure))
    return found


def comparison(lines: list[Line]) -> Table:
    """A line a peer, with our figure, the ratio (above 1: we are better), the goal and whether it was reached.

    A figure of ours that nothing is compared with has a line if it has a goal.
    """
    shown: Table = [("work", "ours", "peer", "theirs", "ratio", "goal", "reached")]
    ours = {line.work: line for line in lines if line.side == OURS}
    compared_with = {line.work for line in lines if line.side != OURS}
    for line in lines:
        mine = ours.get(line.work)
        if mine is not None and line is not mine:
            compared = ratio(mine, line)
            goals, verdict = _goals(mine, line, compared)
            shown.append((line.work, _figure(mine), line.side, _figure(line), f"{compared:.1f}", goals, verdict))
        elif line is mine and mine.goal and mine.work not in compared_with:
            alone = msgspec.structs.replace(mine, least_ratio=0.0)
            shown.append((line.work, _figure(mine), "", "", "", *_goals(mine, alone, 1.0)))
    return shown


def ratio(mine: Line, theirs: Line) -> float:
    """How many times better ours is; where the amounts differ and `scaled` is set, for one of what was done."""
    compared = mine.figure / theirs.figure if mine.at_least else theirs.figure / mine.figure
    return compared * mine.amount / theirs.amount if mine.scaled and theirs.scaled else compared


def _goals(mine: Line, theirs: Line, compared: float) -> tuple[str, str]:
    goals, reached = [], []
    if mine.goal:
        goals.append(f"{'>=' if mine.at_least else '<'} {number(mine.goal)} {mine.unit}")
        reached.append(mine.figure >= mine.goal if mine.at_least else mine.figure < mine.goal)
    if theirs.least_ratio:
        goals.append(f">= {theirs.least_ratio:g} x")
        reached.append(compared >= theirs.least_ratio)
    return ", ".join(goals), ("yes" if all(reached) else "NO") if goals else ""


def _figure(line: Line) -> str:
    of = f" ({number(line.amount)} {line.thing})" if line.amount else ""
    return f"{number(line.figure)} {line.unit}{of}"


def details(lines: list[Line]) -> Table:
    """A line a figure: how its rounds differed, what was used meanwhile, and what bounds it."""
    shown: Table = [("work", "side", "best", "worst", "rounds", "cores: server, database, client, others", "bound by")]
    for line in lines:
        cores = line.cost.cores() if line.cost else ""
        worst = number(line.worst or line.figure)
        shown.append((line.work, line.side, _figure(line), worst, str(line.rounds), cores, line.bound_by))
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


def check(found: object, expected: object) -> None:
    """Tell no time of a wrong answer."""
    if found != expected:
        raise RuntimeError(f"read {str(found)[:200]}, wrote {str(expected)[:200]}")
