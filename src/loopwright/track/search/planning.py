"""Which way to answer a search on SQLite: walk the runs in order and probe each, or meet ranges of indexes first.

SQLite plans without knowing how many rows a condition holds for (few workspaces are ever ANALYZEd, and one `key_id = 7`
looks like another to it), so the choice is made here, from counts of index entries that are cut off early. PostgreSQL
keeps statistics of its own and is left to its planner. Costs are microseconds, measured on SQLite 3.40; only their
ratios matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

COUNT_CAP = 20_000
_ENTRY = 0.6  # read one index entry and put it into the set
_PROBE = 1.1  # look one run up under a key
_RUN = 3.0  # fetch one run and sort it in
_UNKNOWN_SHARE = 0.3  # of the runs, for which a condition that no index narrows is taken to hold
_CAPPED_SHARE = 0.5  # at least, of a range that was not counted to its end


class Order(StrEnum):
    """How the runs can be walked in the order that was asked for."""

    BY_INDEX = "by index"
    BY_GROUPS = "by groups"  # an index gives the first key; runs that share it are sorted
    SORTED = "sorted"  # no index helps: all runs that match are sorted


class Sizes(msgspec.Struct, frozen=True):
    """What is known before: about how many runs there are, how many entries each range has (`COUNT_CAP` means at least
    so many), how many conditions can only be probed, and which ranges are of the first sort key: a walk begins in
    them and visits nothing else."""

    runs: int
    ranges: tuple[int, ...]
    probes: int
    leading: tuple[bool, ...] = ()


def ranges_to_meet(sizes: Sizes, limit: int, order: Order) -> tuple[int, ...]:
    """Which ranges to meet before anything else is done; none means to walk."""
    counted = [number for number, size in enumerate(sizes.ranges) if size < COUNT_CAP]
    if not counted:
        return ()
    smallest = min(sizes.ranges[number] for number in counted)
    chosen = tuple(number for number in counted if sizes.ranges[number] <= 5 * smallest + 100)
    return chosen if _met(sizes, chosen) <= _walked(sizes, limit, order) else ()


def _met(sizes: Sizes, chosen: Sequence[int]) -> float:
    entries = sum(sizes.ranges[number] for number in chosen)
    left = float(min(sizes.ranges[number] for number in chosen))
    for number in chosen[1:]:
        left *= _share(sizes, sizes.ranges[number])
    others = sizes.probes + len(sizes.ranges) - len(chosen)
    return entries * _ENTRY + left * (_RUN + _PROBE * others)


def _walked(sizes: Sizes, limit: int, order: Order) -> float:
    leading = sizes.leading or (False,) * len(sizes.ranges)
    ahead = [size for size, leads in zip(sizes.ranges, leading, strict=True) if leads]
    tested = [size for size, leads in zip(sizes.ranges, leading, strict=True) if not leads]
    visits = min([float(sizes.runs), *(float(size) for size in ahead if size < COUNT_CAP)])
    if order is not Order.SORTED:
        share = _UNKNOWN_SHARE**sizes.probes
        for size in tested:
            share *= _share(sizes, size)
        needed = limit / share if share > 0 else visits
        # Equal first keys come in groups that must be read to their end: take twenty values for a guess.
        visits = min(visits, needed + (visits / 20 if order is Order.BY_GROUPS else 0))
    return visits * _PROBE * (1 + sizes.probes + len(tested))


def _share(sizes: Sizes, size: int) -> float:
    share = size / max(sizes.runs, 1)
    return min(1.0, max(share, _CAPPED_SHARE) if size >= COUNT_CAP else share)
