"""Curves: a metric drawn with a bounded number of buckets, in which no spike is missing.

Few points are grouped exactly. Of many, only the summaries of blocks are read: a part of about 256 points goes whole
into the bucket of its first step, so a bucket may end up to one part later than its share of the steps. What a bucket
says of the points in it is exact all the same: lowest, highest, last, and at which steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, select

from loopwright.track.blocks import PART, PART_POINTS, Parts, each_point, grouped, latest_last, parts_of
from loopwright.track.columns import joined, to_wire_list
from loopwright.track.compaction import Extent
from loopwright.track.histories import (
    MAX_STEP,
    MIN_STEP,
    Source,
    clipped,
    extents,
    read_blocks,
    read_points,
    read_tail,
)
from loopwright.track.model import Curve
from loopwright.track.tables import run_blocks

MAX_BUCKETS = 10_000
_EXACT_POINTS = 65_536
NO_PARTS: Parts = np.empty(0, PART)
_CHUNK = 500


def read_parts(
    connection: Connection, source: Source, buckets: int, first_step: int = MIN_STEP, last_step: int = MAX_STEP
) -> Parts:
    """What a curve is made of: points where they are few, parts of blocks where they are many."""
    blocks = extents(connection, source.series_id, first_step, last_step)
    if sum(block.count for block in blocks) <= max(_EXACT_POINTS, PART_POINTS * buckets):
        return each_point(read_points(connection, source, first_step, last_step))
    inside = [block for block in blocks if first_step <= block.first_step and block.last_step <= last_step]
    edges = [block for block in blocks if block not in inside]
    tail = read_tail(connection, source.series_id, first_step, last_step)
    apart = joined([*read_blocks(connection, [block.id for block in edges]), tail, source.framed])
    found = [*_read_summaries(connection, inside), each_point(clipped(apart, first_step, last_step))]
    return np.concatenate(found)


def curve_of(run_id: str, key: str, parts: Parts, buckets: int) -> Curve:
    """The curve that parts give, in at most so many buckets of equal width in steps."""
    in_order = np.argsort(parts["first_step"], kind="stable")
    parts = bucketed(parts, buckets) if len(parts) > buckets else parts[in_order]
    return Curve(
        run=run_id,
        key=key,
        first_steps=parts["first_step"].tolist(),
        steps=parts["last_step"].tolist(),
        times_us=parts["last_at"].tolist(),
        values=to_wire_list(parts["last"]),
        lows=to_wire_list(parts["low"]),
        low_steps=parts["low_step"].tolist(),
        highs=to_wire_list(parts["high"]),
        high_steps=parts["high_step"].tolist(),
        counts=parts["count"].tolist(),
        nans=parts["nans"].tolist(),
    )


def bucketed(parts: Parts, buckets: int) -> Parts:
    """Parts put together by the bucket that their first step falls into."""
    first, last = int(parts["first_step"].min()), int(parts["first_step"].max())
    width = min(-(-(last - first + 1) // buckets), 2**64 - 1)
    # Steps may be 2^64 apart: the difference is taken modulo 2^64, where it is never negative.
    numbers = (parts["first_step"].astype(np.uint64) - np.int64(first).view(np.uint64)) // np.uint64(width)
    ends = parts["last_step"]
    if not bool((numbers[1:] >= numbers[:-1]).all()) or not bool((ends[1:] > ends[:-1]).all()):
        order = latest_last(parts)
        order = order[np.argsort(numbers[order], kind="stable")]
        parts, numbers = parts[order], numbers[order]
    starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    return grouped(parts, starts)


def _read_summaries(connection: Connection, blocks: Sequence[Extent]) -> list[Parts]:
    ids = [block.id for block in blocks]
    found: dict[int, Parts] = {}
    for start in range(0, len(ids), _CHUNK):
        some = run_blocks.c.id.in_(ids[start : start + _CHUNK])
        rows = connection.execute(select(run_blocks.c.id, run_blocks.c.summary).where(some))
        found.update({row.id: parts_of(row.summary) for row in rows})
    return [found[number] for number in ids]
