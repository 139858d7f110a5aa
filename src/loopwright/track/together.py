"""Where the points of one metric are in each of many runs, found with a few questions for all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import msgspec
from sqlalchemy import Connection, bindparam, select

from loopwright.store import Database
from loopwright.track.columns import Columns, from_rows, joined
from loopwright.track.compaction import Extent
from loopwright.track.frames import Frame
from loopwright.track.histories import clipped, read_blocks
from loopwright.track.keys import ByNumbers, find_keys
from loopwright.track.tables import run_blocks, run_frames, run_points, run_series

_RUNS_AT_ONCE = 16


def find_stored(
    database: Database, connection: Connection, runs: Sequence[int], key: str, span: tuple[int, int]
) -> Iterator[list[Stored]]:
    """Where the points of a metric are in each run that has it, between two steps, both included: some runs at once."""
    key_id = find_keys(database, connection, [key]).get(key)
    if key_id is not None:
        for start in range(0, len(runs), _RUNS_AT_ONCE):
            yield list(_stored(connection, runs[start : start + _RUNS_AT_ONCE], key_id, span))


def read_wholes(
    database: Database, connection: Connection, runs: Sequence[int], key: str, span: tuple[int, int]
) -> dict[int, Columns]:
    """All points of a metric between two steps, both included, in order, by the number of each run that has it."""
    found: dict[int, Columns] = {}
    for some in find_stored(database, connection, runs, key, span):
        packed = iter(read_blocks(connection, [block.id for stored in some for block in stored.blocks]))
        for stored in some:
            found[stored.run] = clipped(joined([*islice(packed, len(stored.blocks)), stored.loose]), *span)
    return found


class Stored(msgspec.Struct, frozen=True, eq=False):
    """Where the points of a metric of a run are: blocks, in the order of their first steps, and loose points."""

    run: int
    blocks: list[Extent]
    loose: Columns


def _stored(connection: Connection, runs: Sequence[int], key_id: int, span: tuple[int, int]) -> Iterator[Stored]:
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
        yield Stored(run, ordered, clipped(loose, *span))


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
