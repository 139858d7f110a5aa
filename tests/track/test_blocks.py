"""Packed points come back bit by bit, damage is told, and what is packed together stays cheap to write."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.track.points import Point, columns

from loopwright.core import Corrupt
from loopwright.track.blocks import pack, parts_of, unpack
from loopwright.track.columns import in_order, joined, to_rows
from loopwright.track.compaction import Extent, choose
from loopwright.track.frames import Frame, by_key, pack_frame
from loopwright.track.values import to_bits

int64 = st.integers(-(2**63), 2**63 - 1)
sizes = st.sampled_from([3, 200, 300, 70_000, 2**33, 2**50])
any_points = st.lists(st.tuples(int64, int64, st.floats().map(to_bits)), min_size=1, max_size=50)


@st.composite
def even_points(draw: st.DrawFn) -> list[Point]:
    """Points whose steps and times are about equally far apart, so that each width of numbers occurs."""
    step, at = draw(st.integers(-(2**62), 2**61)), draw(st.integers(-(2**62), 2**61))
    step_by, at_by = draw(sizes), draw(sizes)
    count = draw(st.integers(1, 30))
    jitter = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return [(step + n * step_by + j, at + n * at_by - j, to_bits(n / 3)) for n, j in enumerate(jitter)]


@settings(deadline=None)
@given(points=any_points | even_points())
def test_blocks_give_back_their_points(points: list[Point]) -> None:
    given_columns = in_order(columns(points))
    blocks = pack(given_columns)
    assert to_rows(joined(unpack(block.points) for block in blocks)) == sorted(set(points))
    assert [(block.first_step, block.last_step) for block in blocks] == [
        (int(found.steps[0]), int(found.steps[-1])) for found in (unpack(block.points) for block in blocks)
    ]
    for parts in (parts_of(block.summary for block in blocks), parts_of(block.outline for block in blocks)):
        assert int(parts["count"].sum()) == sum(block.count for block in blocks) == len(set(points))


@pytest.mark.slow
@settings(deadline=None)
@given(points=st.dictionaries(st.integers(1, 2**62), any_points | even_points(), min_size=1, max_size=5))
def test_frames_give_back_the_points_of_each_metric(points: dict[int, list[Point]]) -> None:
    frame = Frame(packed(points))
    for key_id, some in points.items():
        found = frame.of(key_id)
        assert found is not None
        assert to_rows(found) == some
    assert frame.of(0) is None
    assert frame.of(2**62 + 1) is None
    together = by_key([frame, Frame(packed({7: [(1, 2, 3)]}))])
    assert {key_id: to_rows(found) for key_id, found in together.items()} == points | {
        7: [*points.get(7, []), (1, 2, 3)]
    }


def test_damage_is_told_and_never_read_as_points() -> None:
    [block] = pack(columns([(step, step, to_bits(step / 7)) for step in range(50)]))
    frame = packed({1: [(1, 2, 3)], 2: [(4, 5, 6)]})
    for place in range(0, len(block.points), 11):
        with pytest.raises(Corrupt, match="damaged"):
            unpack(flipped(block.points, place))
    for place in range(0, len(frame), 3):
        with pytest.raises(Corrupt, match="damaged"):
            Frame(flipped(frame, place))
    with pytest.raises(Corrupt, match="damaged"):
        parts_of([flipped(block.summary, 40)])
    for torn in (b"", block.points[:20], block.points[:-1]):
        with pytest.raises(Corrupt, match="damaged"):
            unpack(torn)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_step_with_many_points_has_parts_of_its_own() -> None:
    points = [(0, at, 0) for at in range(100)] + [(1, at, 0) for at in range(1000)] + [(2, 0, 0)] * 1
    parts = parts_of(block.summary for block in pack(columns(points)))
    shared = [(int(part["first_step"]), int(part["last_step"])) for part in parts]
    assert shared == [(0, 0), *[(1, 1)] * (len(shared) - 2), (2, 2)]
    assert len(shared) >= 2 + 1000 // 256


def extent(number: int, first: int, last: int, count: int) -> Extent:
    return Extent(number, first, last, count)


def test_small_blocks_are_taken_in_when_the_new_one_outweighs_them_by_half() -> None:
    small = [extent(1, 0, 9, 1000), extent(2, 10, 19, 2000), extent(3, 20, 29, 8000)]
    assert choose(extent(0, 30, 31, 499), small) == []
    assert choose(extent(0, 30, 31, 500), small) == small[:2]
    assert choose(extent(0, 30, 31, 1000), small) == small


def test_full_blocks_are_left_alone_unless_a_grown_one_overlaps_few_of_them() -> None:
    full = [extent(number, number * 10, number * 10 + 9, 16_384) for number in range(1, 9)]
    assert choose(extent(0, 100, 200, 9000), full) == []
    assert choose(extent(0, 15, 35, 9000), full) == full[:3]
    assert choose(extent(0, 15, 35, 5000), full) == []
    assert choose(extent(0, 15, 65, 9000), full) == []


def test_packing_costs_a_point_a_few_turns_however_it_comes() -> None:
    """Appending a thousand points a call: how many are packed in all, for each that is stored."""
    stored: list[Extent] = []
    packed = 0
    for call in range(500):
        new = extent(call + 1, call * 1000, call * 1000 + 999, 1000)
        taken = choose(new, stored)
        total = new.count + sum(block.count for block in taken)
        stored = [block for block in stored if block not in taken]
        first = min(block.first_step for block in (new, *taken))
        while total:
            part = min(total, 16_384)
            stored.append(extent(1000 + packed, first, first + part - 1, part))
            packed, total, first = packed + part, total - part, first + part
    assert packed / 500_000 < 5
    assert len(stored) < 2 * 500_000 / 8192


def packed(points: dict[int, list[Point]]) -> bytes:
    """The frame of points by key number."""
    key_ids = sorted(points)
    sizes = [len(points[key_id]) for key_id in key_ids]
    return pack_frame(
        np.repeat(np.array(key_ids, np.int64), sizes),
        columns([point for key_id in key_ids for point in points[key_id]]),
    )
