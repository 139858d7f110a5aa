"""The points of a series on their way out: blocks, frames and tail merged, in order, each point once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select

from loopwright.core import Invalid
from loopwright.store import Database
from loopwright.track.blocks import unpack
from loopwright.track.columns import Columns, from_rows, joined, order_bits, to_wire_list
from loopwright.track.compaction import Extent
from loopwright.track.frames import Frame, read_frames
from loopwright.track.keys import find_keys
from loopwright.track.model import MetricHistory
from loopwright.track.tables import run_blocks, run_points, run_series

_CHUNK = 500
MIN_STEP, MAX_STEP = -(2**63), 2**63 - 1
_TOKEN = re.compile(r"(-?\d{1,19})\.(-?\d{1,19})\.(-?\d{1,19})", re.ASCII)
Position: TypeAlias = tuple[int, int, int]


class Source(msgspec.Struct, frozen=True):
    """Where the points of a series are: its number, and its part of the run's frames."""

    series_id: int
    framed: Columns


def find_sources(database: Database, connection: Connection, run_seq: int, keys: Sequence[str]) -> dict[str, Source]:
    """Where the points of a run's metrics are; metrics that it has not are left out."""
    wanted = {number: key for key, number in find_keys(database, connection, keys).items()}
    columns = run_series.c
    query = select(columns.key_id, columns.id).where(columns.run_seq == run_seq)
    if len(wanted) <= _CHUNK:
        query = query.where(columns.key_id.in_(wanted))
    numbers = {row.key_id: row.id for row in connection.execute(query) if row.key_id in wanted}
    frames = read_frames(connection, run_seq) if numbers else []
    return {wanted[key_id]: Source(number, _framed(frames, key_id)) for key_id, number in numbers.items()}


def _framed(frames: Sequence[Frame], key_id: int) -> Columns:
    parts = (frame.of(key_id) for frame in frames)
    return joined(part for part in parts if part is not None)


def read_points(
    connection: Connection, source: Source, first_step: int = MIN_STEP, last_step: int = MAX_STEP
) -> Columns:
    """All points of a series between two steps, both included, in order."""
    blocks = extents(connection, source.series_id, first_step, last_step)
    packed = read_blocks(connection, [block.id for block in blocks])
    points = joined([*packed, read_tail(connection, source.series_id, first_step, last_step), source.framed])
    return clipped(points, first_step, last_step)


def read_page(
    connection: Connection, source: Source, first_step: int, last_step: int, limit: int, after: Position | None
) -> tuple[Columns, Position | None]:
    """At most `limit` points after a position, and where the next page begins; None if there is nothing more."""
    if after is not None:
        first_step = max(first_step, after[0])
    blocks = extents(connection, source.series_id, first_step, last_step)
    tail = read_tail(connection, source.series_id, first_step, last_step, limit + 1, after)
    parts: list[Columns] = [tail, source.framed]
    while True:
        some, blocks = _enough(blocks, limit)
        parts += read_blocks(connection, [block.id for block in some])
        found = joined(parts)
        known_to = min(last_step, blocks[0].first_step - 1) if blocks else last_step
        page = _beyond(clipped(found, first_step, known_to), after)
        if len(page) > limit or not blocks:
            break
        parts = [found]
    if len(page) <= limit:
        return page, None
    page = page.part(slice(0, limit))
    bits = int(order_bits(page.values[-1:])[0])
    return page, (int(page.steps[-1]), int(page.times_us[-1]), bits)


def extents(connection: Connection, series_id: int, first_step: int, last_step: int) -> list[Extent]:
    """The blocks of a series that have steps in a range, by their first step. Answered by the index alone."""
    columns = run_blocks.c
    query = select(columns.id, columns.first_step, columns.last_step, columns.count).where(
        columns.series_id == series_id, columns.last_step >= first_step, columns.first_step <= last_step
    )
    found = [Extent(*row) for row in connection.execute(query)]
    return sorted(found, key=lambda block: (block.first_step, block.last_step, block.id))


def read_blocks(connection: Connection, ids: Sequence[int]) -> list[Columns]:
    """The points of blocks, in the order of their ids' list."""
    found: dict[int, Columns] = {}
    for start in range(0, len(ids), _CHUNK):
        found.update({number: unpack(data) for number, data in _packed(connection, ids[start : start + _CHUNK])})
    return [found[number] for number in ids]


def _packed(connection: Connection, ids: Sequence[int]) -> Sequence[Any]:
    """The packed points of blocks, by number. PostgreSQL sends them as digits, unless its driver is told otherwise."""
    if connection.dialect.name != "postgresql":
        return connection.execute(_PACKED, {"ids": ids}).all()
    driver: Any = connection.connection.driver_connection
    with driver.cursor(binary=True) as cursor:
        found: Sequence[Any] = cursor.execute(_PACKED_BINARY, (list(ids),)).fetchall()
        return found


_PACKED = select(run_blocks.c.id, run_blocks.c.points).where(run_blocks.c.id.in_(bindparam("ids", expanding=True)))
_PACKED_BINARY = "SELECT id, points FROM run_blocks WHERE id = ANY(%s)"


def read_tail(
    connection: Connection,
    series_id: int,
    first_step: int,
    last_step: int,
    limit: int | None = None,
    after: Position | None = None,
) -> Columns:
    """The rows of a series' tail in a range, in order; at most `limit` of those after a position."""
    columns = run_points.c
    mine = and_(columns.series_id == series_id, columns.step >= first_step, columns.step <= last_step)
    query = select(columns.step, columns.at, columns.bits).where(mine)
    if after is not None:
        query = query.where(_later(after))
    return from_rows(connection.execute(query.order_by(columns.step, columns.at, columns.bits).limit(limit)).all())


def clipped(points: Columns, first_step: int, last_step: int) -> Columns:
    """Those of points in order whose steps are in a range."""
    if not len(points) or (points.steps[0] >= first_step and points.steps[-1] <= last_step):
        return points
    start = int(points.steps.searchsorted(first_step, "left"))
    return points.part(slice(start, max(start, int(points.steps.searchsorted(last_step, "right")))))


def history_of(run_id: str, key: str, points: Columns, beyond: Position | None = None) -> MetricHistory:
    """The record of points, with the token of the page after them."""
    values = to_wire_list(points.values)
    return MetricHistory(run_id, key, points.steps.tolist(), points.times_us.tolist(), values, token_of(beyond))


def token_of(position: Position | None) -> str:
    """The text that asks for what comes after a point; empty for None."""
    return "" if position is None else ".".join(map(str, position))


def position_of(token: str) -> Position | None:
    """The point that a token stands for.

    Raises:
        Invalid: the token is not one of ours.
    """
    if not token:
        return None
    found = _TOKEN.fullmatch(token)
    numbers = tuple(int(group) for group in found.groups()) if found else ()
    if len(numbers) != 3 or not all(MIN_STEP <= number <= MAX_STEP for number in numbers):
        raise Invalid(f"{token[:60]!r} is no place in a history", next_step="take `next` of the page before as it is")
    return numbers[0], numbers[1], numbers[2]


def _enough(blocks: list[Extent], limit: int) -> tuple[list[Extent], list[Extent]]:
    """The first blocks that hold more than `limit` points, and the rest."""
    total = 0
    for number, block in enumerate(blocks, 1):
        total += block.count
        if total > limit:
            return blocks[:number], blocks[number:]
    return blocks, []


def _beyond(points: Columns, after: Position | None) -> Columns:
    """Those of points in order that come after a position."""
    if after is None or not len(points):
        return points
    first = int(points.steps.searchsorted(after[0], "left"))
    beyond = int(points.steps.searchsorted(after[0], "right"))
    same = points.part(slice(first, beyond))
    later = (same.times_us > after[1]) | ((same.times_us == after[1]) & (order_bits(same.values) > after[2]))
    return points.part(slice(beyond - int(later.sum()), None))


def _later(after: Position) -> ColumnElement[bool]:
    columns = run_points.c
    step, at, bits = after
    return or_(
        columns.step > step,
        and_(columns.step == step, columns.at > at),
        and_(columns.step == step, columns.at == at, columns.bits > bits),
    )
