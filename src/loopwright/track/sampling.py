"""Samples: points of a series at even distances in the order of its points, its first and last among them.

Which points these are is known from the number of points of each block. Blocks that share no step with any other point
are read one by one, and only the sampled points of them are kept; whatever overlaps is put in order first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection

from loopwright.store import Database
from loopwright.track.columns import Columns, Ints, joined, together
from loopwright.track.compaction import Extent
from loopwright.track.histories import clipped, read_blocks
from loopwright.track.together import Stored, find_stored

_BLOCKS_AT_ONCE = 64


def read_samples(
    database: Database, connection: Connection, runs: Sequence[int], key: str, most: int, span: tuple[int, int]
) -> dict[int, Columns]:
    """At most so many points of a metric in each run that has it, by the run's number: between two steps, both
    included, in order. Where there is room for only one, the last one is taken."""
    stored = find_stored(database, connection, runs, key, span)
    return {item.run: _sample(connection, item, most, span) for some in stored for item in some}


def _sample(connection: Connection, stored: Stored, most: int, span: tuple[int, int]) -> Columns:
    apart = _standing_apart(stored.blocks, stored.loose, *span)
    mixed = [block.id for block in stored.blocks if block not in apart]
    loose = stored.loose
    if mixed:
        loose = clipped(joined([*read_blocks(connection, mixed), loose]), *span)
    return _picked(connection, apart, loose, most)


def places(total: int, most: int) -> Ints:
    """The places of a sample among so many points in order: the first point of each of `most` groups whose sizes
    differ by one at most, and the last point of all, in place of the last group's first.

    These are the points that MLflow's server gives (`NTILE` of SQL:2003, section 6.10, and the last row).
    """
    groups = min(most, total)
    if not groups:
        return np.empty(0, np.int64)
    size, larger = divmod(total, groups)
    numbers = np.arange(groups, dtype=np.int64)
    found: Ints = numbers * size + np.minimum(numbers, larger)
    found[-1] = total - 1
    return found


def _standing_apart(blocks: Sequence[Extent], loose: Columns, first_step: int, last_step: int) -> list[Extent]:
    """The blocks, of those in the order of their first steps, that lie wholly between two steps and share no step with
    another block or with a loose point, nor lie across one."""
    found: list[Extent] = []
    reached: int | None = None
    for number, block in enumerate(blocks):
        free = reached is None or reached < block.first_step
        free = free and (number + 1 == len(blocks) or block.last_step < blocks[number + 1].first_step)
        reached = block.last_step if reached is None else max(reached, block.last_step)
        inside = first_step <= block.first_step and block.last_step <= last_step
        if free and inside and _between(loose, block.first_step, block.last_step) == 0:
            found.append(block)
    return found


def _between(points: Columns, first_step: int, last_step: int) -> int:
    """How many of points in order have steps in a range."""
    return int(points.steps.searchsorted(last_step, "right")) - int(points.steps.searchsorted(first_step, "left"))


def _picked(connection: Connection, apart: Sequence[Extent], loose: Columns, most: int) -> Columns:
    """The sample of all points of blocks that stand apart, and of loose points, which lie between them."""
    sizes = np.array([block.count for block in apart], np.int64)
    firsts = np.array([block.first_step for block in apart], np.int64)
    before = np.concatenate(([0], np.cumsum(sizes)))  # points of blocks before each block
    starts = before[:-1] + loose.steps.searchsorted(firsts, "left")  # the place of each block's first point
    wanted = places(int(before[-1]) + len(loose), most)
    block = starts.searchsorted(wanted, "right") - 1
    in_block = block >= 0
    in_block[in_block] = wanted[in_block] < (starts + sizes)[block[in_block]]
    parts = [loose.part((wanted - before[block + 1])[~in_block])]
    needed = np.unique(block[in_block]).tolist()
    for number, points in zip(needed, _read(connection, [apart[number].id for number in needed]), strict=True):
        parts.append(points.part((wanted - starts[number])[in_block & (block == number)]))
    points = together(parts)
    return points.part(np.argsort(points.steps, kind="stable"))


def _read(connection: Connection, ids: Sequence[int]) -> Iterator[Columns]:
    """The points of blocks one after the other; only a few are held at once."""
    for start in range(0, len(ids), _BLOCKS_AT_ONCE):
        yield from read_blocks(connection, ids[start : start + _BLOCKS_AT_ONCE])
