"""How points of a series become blocks, and how blocks that are small or overlap become fewer.

New blocks take in those small ones that they outweigh by half, as a binary counter carries, so that a point is packed
a few times in its life and not once for each batch. A block that has grown takes in the few full blocks whose steps
it overlaps; where it overlaps many, points arrive at random steps, and readers sort them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, and_, delete, or_, select

from loopwright.track.blocks import BLOCK_POINTS, pack, unpack
from loopwright.track.columns import Columns, from_rows, joined
from loopwright.track.tables import run_blocks, run_points

TAIL_LIMIT = 1_024
_SMALL = BLOCK_POINTS // 2
_MAX_OVERLAPPED = 4
_MAX_TAIL_TAKEN = 4 * BLOCK_POINTS


class Extent(msgspec.Struct, frozen=True):
    """What is known of a block without reading it."""

    id: int
    first_step: int
    last_step: int
    count: int


def add_block(tx: Connection, series_id: int, points: Columns) -> None:
    """Store points of a series that this transaction holds as blocks, merged with those that are there."""
    points = joined([points])
    if not len(points):
        return
    lowest, highest = int(points.steps[0]), int(points.steps[-1])
    near = _near(tx, series_id, lowest, highest)
    taken = choose(Extent(0, lowest, highest, len(points)), near)
    if taken:
        points = joined([*_take(tx, taken), points])
    rows = [{"series_id": series_id, **msgspec.structs.asdict(block)} for block in pack(points)]
    tx.execute(run_blocks.insert(), rows)


def choose(new: Extent, stored: Sequence[Extent]) -> list[Extent]:
    """Those of the stored blocks that new points are packed together with."""
    taken: list[Extent] = []
    total = new.count
    for block in sorted((block for block in stored if block.count < _SMALL), key=lambda block: block.count):
        if block.count > 2 * total:
            break
        taken.append(block)
        total += block.count
    if total < _SMALL:
        return taken
    lowest = min(block.first_step for block in (new, *taken))
    highest = max(block.last_step for block in (new, *taken))
    others = [block for block in stored if block not in taken]
    overlapped = [block for block in others if block.first_step <= highest and block.last_step >= lowest]
    return [*taken, *overlapped] if len(overlapped) <= _MAX_OVERLAPPED else taken


def take_tail(tx: Connection, series_id: int) -> tuple[Columns, bool]:
    """Remove the tail of a series that this transaction holds; the points, and whether some are left.

    The rows are removed and read in one statement, so that a row which another writer adds meanwhile is not lost.
    """
    columns = run_points.c
    tail = columns.series_id == series_id
    far = (
        select(columns.step)
        .where(tail)
        .order_by(columns.step, columns.at, columns.bits)
        .limit(1)
        .offset(_MAX_TAIL_TAKEN)
    )
    bound = tx.execute(far).scalar_one_or_none()
    removed = delete(run_points).where(tail if bound is None else and_(tail, columns.step <= bound))
    rows = tx.execute(removed.returning(columns.step, columns.at, columns.bits)).all()
    return from_rows(rows), bound is not None


def _near(tx: Connection, series_id: int, lowest: int, highest: int) -> list[Extent]:
    columns = run_blocks.c
    overlaps = and_(columns.last_step >= lowest, columns.first_step <= highest)
    query = select(columns.id, columns.first_step, columns.last_step, columns.count)
    rows = tx.execute(query.where(columns.series_id == series_id, or_(columns.count < _SMALL, overlaps)))
    return [Extent(*row) for row in rows]


def _take(tx: Connection, blocks: Sequence[Extent]) -> list[Columns]:
    removed = delete(run_blocks).where(run_blocks.c.id.in_([block.id for block in blocks]))
    return [unpack(data) for data in tx.execute(removed.returning(run_blocks.c.points)).scalars()]
