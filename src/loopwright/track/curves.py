"""Curves: a metric drawn with a bounded number of buckets, in which no spike is missing.

Few points are grouped exactly. Of many, only the summaries of blocks are read, or of very many their outlines: a part
of about 256 or 2,048 points goes whole into the bucket of its first step, so a bucket may end up to one part later than
its share of the steps. What a bucket
says of the points in it is exact all the same: lowest, highest, last, and at which steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from loopwright.track.blocks import (
    PART,
    PART_POINTS,
    PARTS_IN_OUTLINE,
    Parts,
    each_point,
    grouped,
    grouped_points,
    latest_last,
    parts_of,
)
from loopwright.track.columns import Columns, Ints, joined, to_wire_list
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


def read_curve(
    connection: Connection,
    source: Source,
    buckets: int,
    first_step: int = MIN_STEP,
    last_step: int = MAX_STEP,
) -> Parts:
    """The buckets of a series between two steps, both included: at most so many, of equal width in steps."""
    blocks = extents(connection, source.series_id, first_step, last_step)
    if sum(block.count for block in blocks) <= max(_EXACT_POINTS, PART_POINTS * buckets):
        points = read_points(connection, source, first_step, last_step)
        return each_point(points) if len(points) <= buckets else bucketed(NO_PARTS, points, buckets)
    inside = [block for block in blocks if first_step <= block.first_step and block.last_step <= last_step]
    edges = [block.id for block in blocks if block.first_step < first_step or last_step < block.last_step]
    tail = read_tail(connection, source.series_id, first_step, last_step)
    apart = clipped(joined([*read_blocks(connection, edges), tail, source.framed]), first_step, last_step)
    return bucketed(_read_parts(connection, source, inside, buckets), apart, buckets)


def bucketed(parts: Parts, points: Columns, buckets: int) -> Parts:
    """Parts, each by the bucket of its first step, and points in order put together; of one of them there must be some.

    Buckets without points are left out.
    """
    steps = np.concatenate([parts["first_step"], points.steps[:1], points.steps[-1:]])
    first, last = int(steps.min()), int(steps.max())
    width = min(-(-(last - first + 1) // buckets), 2**64 - 1)
    grouped_apart = grouped_points(points, _changes(_bucket_numbers(points.steps, first, width, buckets)))
    if not len(parts):
        return grouped_apart
    parts = np.concatenate([parts, grouped_apart])
    numbers, ends = _bucket_numbers(parts["first_step"], first, width, buckets), parts["last_step"]
    if not bool((numbers[1:] >= numbers[:-1]).all()) or not bool((ends[1:] > ends[:-1]).all()):
        order = latest_last(parts)
        order = order[np.argsort(numbers[order], kind="stable")]
        parts, numbers = parts[order], numbers[order]
    return grouped(parts, _changes(numbers))


def curve_of(run_id: str, key: str, parts: Parts) -> Curve:
    """The record of buckets."""
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


def _bucket_numbers(steps: Ints, first: int, width: int, buckets: int) -> npt.NDArray[np.uint64]:
    """The number of the bucket of each step, where buckets of this width begin at `first`."""
    # Steps may be 2^64 apart: the difference is taken modulo 2^64, where it is never negative.
    numbers = (steps.astype(np.uint64) - np.int64(first).view(np.uint64)) // np.uint64(width)
    found: npt.NDArray[np.uint64] = np.minimum(numbers, np.uint64(buckets - 1))
    return found


def _changes(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Where each run of equal numbers begins."""
    changed = np.ones(len(numbers), np.bool_)
    changed[1:] = numbers[1:] != numbers[:-1]
    return np.flatnonzero(changed)


def _read_parts(connection: Connection, source: Source, inside: Sequence[Extent], buckets: int) -> Parts:
    """The outlines of blocks where a bucket has several of their parts, else the summaries."""
    columns = run_blocks.c
    parts_in_outlines = sum(block.count for block in inside) // (PART_POINTS * PARTS_IN_OUTLINE)
    column = columns.outline if parts_in_outlines >= 2 * buckets else columns.summary
    query = select(column).where(
        columns.series_id == source.series_id,
        columns.first_step >= min((block.first_step for block in inside), default=0),
        columns.last_step <= max((block.last_step for block in inside), default=-1),
    )
    return parts_of(connection.execute(query.order_by(columns.last_step)).scalars().all())
