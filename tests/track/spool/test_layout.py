"""The format of a segment: whatever happens to its bytes, no point is invented, and none is lost with another."""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.track.spool.layout import SLOT_BYTES, note_bytes, read_slots, seed_of, write_note, write_point

SEED = seed_of("01a2039547e87d72b318c48fbbf1e455", 3)
SIGNED = st.integers(-(2**63), 2**63 - 1)
POINTS = st.tuples(st.integers(1, 2**32 - 1), SIGNED, SIGNED, st.floats(width=64))
RECORDS = st.lists(POINTS | st.binary(max_size=200), max_size=40)


class Laid(NamedTuple):
    """Records as bytes, and where each lies: its first byte and the byte behind it."""

    data: bytes
    places: list[tuple[int, int]]


def lay(records: list[tuple[int, int, int, float] | bytes], seed: int = SEED) -> Laid:
    sizes = [note_bytes(item) if isinstance(item, bytes) else SLOT_BYTES for item in records]
    buffer, at, places = bytearray(sum(sizes)), 0, []
    for item, size in zip(records, sizes, strict=True):
        if isinstance(item, bytes):
            write_note(buffer, at, seed, item, 7)
        else:
            write_point(buffer, at, seed, *item)
        places.append((at, at + size))
        at += size
    return Laid(bytes(buffer), places)


def found_in(data: bytes, first: int = 0, seed: int = SEED) -> dict[int, object]:
    """What is read, by the number of its first slot; floats by their bits, so that NaN equals itself."""
    slots = read_slots(data, first, seed)
    points: dict[int, object] = {
        first + at: (
            int(slots.series[at]),
            int(slots.steps[at]),
            int(slots.times_ns[at]),
            struct.pack("<d", slots.values[at]),
        )
        for at in np.flatnonzero(slots.points).tolist()
    }
    return {**points, **{note.first: note.payload for note in slots.notes}}


def expected(records: list[tuple[int, int, int, float] | bytes], laid: Laid) -> dict[int, object]:
    return {
        start // SLOT_BYTES: item if isinstance(item, bytes) else (*item[:3], struct.pack("<d", item[3]))
        for item, (start, _) in zip(records, laid.places, strict=True)
    }


@given(RECORDS)
def test_what_is_written_is_read(records: list[tuple[int, int, int, float] | bytes]) -> None:
    laid = lay(records)
    assert found_in(laid.data) == expected(records, laid)
    assert found_in(laid.data + bytes(10 * SLOT_BYTES)) == expected(records, laid)


@given(RECORDS, st.data())
def test_a_cut_loses_only_what_was_not_whole(
    records: list[tuple[int, int, int, float] | bytes], data: st.DataObject
) -> None:
    laid = lay(records)
    cut = data.draw(st.integers(0, len(laid.data)))
    left = laid.data[:cut] + bytes(len(laid.data) - cut)  # zeros follow, as in a segment
    wanted = {
        slot: item
        for (slot, item), (start, end) in zip(expected(records, laid).items(), laid.places, strict=True)
        if left[start:end] == laid.data[start:end]  # a record may end in zeros of its own
    }
    assert found_in(left) == wanted


@pytest.mark.slow
@given(RECORDS, st.data())
@settings(max_examples=examples(300))
def test_damaged_bytes_lose_only_the_records_that_they_are_in(
    records: list[tuple[int, int, int, float] | bytes], data: st.DataObject
) -> None:
    laid = lay(records)
    wanted = expected(records, laid)
    damaged = bytearray(laid.data)
    hit = data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=4)) if damaged else []
    for place in hit:
        damaged[place] ^= data.draw(st.integers(1, 255))
    found = found_in(bytes(damaged))
    touched = {start // SLOT_BYTES for start, end in laid.places if any(start <= place < end for place in hit)}
    assert found.items() <= wanted.items()
    assert wanted.keys() - found.keys() <= touched


@given(RECORDS, st.integers(1, 50))
def test_a_reader_may_begin_at_any_record(records: list[tuple[int, int, int, float] | bytes], skip: int) -> None:
    laid = lay(records)
    start = laid.places[min(skip, len(records) - 1)][0] if records else 0
    wanted = {slot: item for slot, item in expected(records, laid).items() if slot >= start // SLOT_BYTES}
    assert found_in(laid.data[start:], start // SLOT_BYTES) == wanted


def test_a_slot_of_another_place_or_segment_is_no_point() -> None:
    laid = lay([(1, step, 5, 0.5) for step in range(3)])
    moved = laid.data[SLOT_BYTES : 2 * SLOT_BYTES] + laid.data[:SLOT_BYTES] + laid.data[2 * SLOT_BYTES :]
    assert list(found_in(moved)) == [2]
    assert found_in(laid.data, seed=seed_of("01a2039547e87d72b318c48fbbf1e455", 4)) == {}


def test_a_segment_that_a_user_stores_in_a_note_is_no_record() -> None:
    inner = lay([(9, step, 5, 9.0) for step in range(5)]).data
    laid = lay([(1, 0, 5, 1.0), inner, (1, 1, 5, 2.0)])
    slots = read_slots(laid.data, 0, SEED)
    assert slots.series[slots.points].tolist() == [1, 1]
    assert [note.payload for note in slots.notes] == [inner]
    # Not even where it lies just as in a segment of its own, and the head before it is damaged.
    damaged = bytearray(laid.data)
    damaged[SLOT_BYTES] ^= 1
    assert 9 not in read_slots(bytes(damaged), 0, SEED).series[read_slots(bytes(damaged), 0, SEED).points]


def test_every_double_is_kept_bit_by_bit() -> None:
    values = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1.7976931348623157e308]
    laid = lay([(1, step, 0, value) for step, value in enumerate(values)])
    assert read_slots(laid.data, 0, SEED).values.tobytes() == np.array(values).tobytes()


def test_the_side_by_side_crc_is_zlibs() -> None:
    """100,000 slots: more than are checked at once."""
    records = [(1 + number % 9, number, number * 3, number / 7) for number in range(100_000)]
    laid = lay(records)
    assert read_slots(laid.data, 0, SEED).points.all()
