"""How points of a series become blocks, and how blocks that are small or overlap become fewer.

New blocks take in those small ones that they outweigh by half, as a binary counter carries, so that a point is packed
a few times in its life and not once for each batch. A block that has grown takes in the few full blocks whose steps
it overlaps; where it overlaps many, points arrive at random steps, and readers sort them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, and_, bindparam, delete, or_, select

from loopwright.track.blocks import BLOCK_POINTS, pack, unpack
from loopwright.track.columns import Columns, from_rows, in_order, joined
from loopwright.track.keys import ByNumbers
from loopwright.track.tables import run_blocks, run_points

TAIL_LIMIT = 1_024
_SMALL = BLOCK_POINTS // 2
_MAX_OVERLAPPED = 4
_CHUNK = 500
_INSERT = run_blocks.insert()
_MAX_TAIL_TAKEN = 4 * BLOCK_POINTS


class Extent(msgspec.Struct, frozen=True):
    """What is known of a block without reading it."""

    id: int
    first_step: int
    last_step: int
    count: int


def add_blocks(tx: Connection, points: Mapping[int, Columns]) -> None:
    """Store points by series as blocks, merged with those that are there, in a run that this transaction holds."""
    given = {series_id: in_order(found) for series_id, found in points.items() if len(found)}
    new = {series_id: _extent_of(found) for series_id, found in given.items()}
    near = _near(tx, new)
    taken = [block for series_id, extent in new.items() for block in choose(extent, near.get(series_id, []))]
    old = _take(tx, taken)
    rows = [
        {"series_id": series_id, **msgspec.structs.asdict(block)}
        for series_id, found in given.items()
        for block in pack(joined([*old.get(series_id, []), found]))
    ]
    if rows:
        tx.execute(_INSERT, rows)


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
    ids = {block.id for block in taken}
    others = [block for block in stored if block.id not in ids]
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


def _extent_of(points: Columns) -> Extent:
    return Extent(0, int(points.steps[0]), int(points.steps[-1]), len(points))


_BLOCKS = run_blocks.c
_NEAR = ByNumbers(
    select(_BLOCKS.series_id, _BLOCKS.id, _BLOCKS.first_step, _BLOCKS.last_step, _BLOCKS.count).where(
        or_(
            _BLOCKS.count < _SMALL,
            and_(_BLOCKS.last_step >= bindparam("lowest"), _BLOCKS.first_step <= bindparam("highest")),
        )
    ),
    _BLOCKS.series_id,
)
_TAKE = (
    delete(run_blocks)
    .where(_BLOCKS.id.in_(bindparam("ids", expanding=True)))
    .returning(_BLOCKS.series_id, _BLOCKS.points)
)


def _near(tx: Connection, new: Mapping[int, Extent]) -> dict[int, list[Extent]]:
    """By series, the blocks that new points may be merged with: the small ones, and those that may overlap."""
    found: dict[int, list[Extent]] = {}
    for some in _chunks(sorted(new)):
        lowest = min(new[series_id].first_step for series_id in some)
        highest = max(new[series_id].last_step for series_id in some)
        for row in _NEAR.rows(tx, some, lowest=lowest, highest=highest):
            found.setdefault(row[0], []).append(Extent(*row[1:]))
    return found


def _take(tx: Connection, blocks: Sequence[Extent]) -> dict[int, list[Columns]]:
    """Remove blocks; their points by series."""
    found: dict[int, list[Columns]] = {}
    for some in _chunks([block.id for block in blocks]):
        for row in tx.execute(_TAKE, {"ids": some}):
            found.setdefault(row.series_id, []).append(unpack(row.points))
    return found


def _chunks(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return (numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK))
