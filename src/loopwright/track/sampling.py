"""Samples: points of a series at even distances in the order of its points, its first and last among them.

Which points these are is known from the number of points of each block. Blocks that share no step with any other point
are read one by one, and only the sampled points of them are kept; whatever overlaps is put in order first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from sqlalchemy import Connection, bindparam, select

from loopwright.store import Database
from loopwright.track.columns import Columns, Ints, from_rows, joined, together
from loopwright.track.compaction import Extent
from loopwright.track.frames import Frame
from loopwright.track.histories import clipped, read_blocks
from loopwright.track.keys import ByNumbers, find_keys
from loopwright.track.tables import run_blocks, run_frames, run_points, run_series

_BLOCKS_AT_ONCE = 64
_RUNS_AT_ONCE = 16


def read_samples(
    database: Database, connection: Connection, runs: Sequence[int], key: str, most: int, span: tuple[int, int]
) -> dict[int, Columns]:
    """At most so many points of a metric in each run that has it, by the run's number: between two steps, both
    included, in order. Where there is room for only one, the last one is taken."""
    key_id = find_keys(database, connection, [key]).get(key)
    found: dict[int, Columns] = {}
    if key_id is None:
        return found
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        for stored in _stored(connection, runs[start : start + _RUNS_AT_ONCE], key_id, span):
            found[stored.run] = _sample(connection, stored, most, span)
    return found


class _Stored(msgspec.Struct, frozen=True, eq=False):
    """Where the points of a metric of a run are: blocks, in the order of their first steps, and loose points."""

    run: int
    blocks: list[Extent]
    loose: Columns


def _stored(connection: Connection, runs: Sequence[int], key_id: int, span: tuple[int, int]) -> Iterator[_Stored]:
    within = {"lowest": span[0], "highest": span[1]}
    series = dict(_SERIES.rows(connection, runs, key_id=key_id))
    blocks: dict[int, list[Extent]] = {}
    for number, *extent in _EXTENTS.rows(connection, series.values(), **within):
        blocks.setdefault(number, []).append(Extent(*extent))
    tails: dict[int, list[list[int]]] = {}
    for number, *point in _TAILS.rows(connection, series.values(), **within):
        tails.setdefault(number, []).append(point)
    framed = _framed(connection, list(series), key_id)
    for run, number in series.items():
        loose = joined([from_rows(tails.get(number, [])), *framed.get(run, [])])
        ordered = sorted(blocks.get(number, []), key=lambda block: (block.first_step, block.last_step, block.id))
        yield _Stored(run, ordered, clipped(loose, *span))


def _framed(connection: Connection, runs: Sequence[int], key_id: int) -> Mapping[int, list[Columns]]:
    found: dict[int, list[Columns]] = {}
    for run, data in _FRAMES.rows(connection, runs):
        part = Frame(data).of(key_id)
        if part is not None:
            found.setdefault(run, []).append(part)
    return found


_SERIES = ByNumbers(
    select(run_series.c.run_seq, run_series.c.id).where(run_series.c.key_id == bindparam("key_id")),
    run_series.c.run_seq,
)
_EXTENTS = ByNumbers(
    select(
        run_blocks.c.series_id, run_blocks.c.id, run_blocks.c.first_step, run_blocks.c.last_step, run_blocks.c.count
    ).where(run_blocks.c.last_step >= bindparam("lowest"), run_blocks.c.first_step <= bindparam("highest")),
    run_blocks.c.series_id,
)
_TAILS = ByNumbers(
    select(run_points.c.series_id, run_points.c.step, run_points.c.at, run_points.c.bits).where(
        run_points.c.step >= bindparam("lowest"), run_points.c.step <= bindparam("highest")
    ),
    run_points.c.series_id,
)
_FRAMES = ByNumbers(select(run_frames.c.run_seq, run_frames.c.points), run_frames.c.run_seq)


def _sample(connection: Connection, stored: _Stored, most: int, span: tuple[int, int]) -> Columns:
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
