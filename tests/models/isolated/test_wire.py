"""What travels between a server and a worker arrives as it was sent; what is no frame is refused, whatever it is."""

from __future__ import annotations

import socket
import struct
import time
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.examples import examples

from loopwright.models.isolated.wire import BadFrame, Block, Frame, receive, send

NUMBERS = arrays.arrays(
    st.sampled_from(["bool", "int8", "uint16", "int64", "float16", "float32", "float64", ">i4", ">f8"]),
    arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)
STRINGS = st.lists(st.none() | st.text(), max_size=5)


def exchanged(given_arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    left, right = socket.socketpair()
    with left, right:
        send(left, Frame("question", 7, {"word": "value"}), given_arrays)
        frame, found = receive(right, 1 << 20, time.monotonic() + 5)
    assert (frame.kind, frame.number, frame.words) == ("question", 7, {"word": "value"})
    return found


@settings(max_examples=examples(60), deadline=None)
@given(st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3))
def test_numbers_of_every_type_and_shape_arrive_as_they_were(sent: dict[str, np.ndarray[Any, Any]]) -> None:
    found = exchanged(sent)
    assert list(found) == list(sent)
    for name, array in sent.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


@settings(max_examples=examples(40), deadline=None)
@given(STRINGS)
def test_strings_and_missing_ones_arrive_as_they_were(values: list[str | None]) -> None:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    assert exchanged({"text": array})["text"].tolist() == values


def refused(data: bytes) -> bool:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(data)
        left.close()
        try:
            receive(right, 1 << 16, time.monotonic() + 5)
        except (BadFrame, EOFError):
            return True
        return False


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    assert refused(data)


@pytest.mark.parametrize(
    "block",
    [
        Block("x", "float64", (1 << 40,), 8),
        Block("x", "float64", (-1,), 8),
        Block("x", "float64", (2,), 8),
        Block("x", "object", (1,), 8),
        Block("x", "strings", (3,), 8),
        Block("x", "float64", (1,) * 40, 8),
        Block("x", "float64", (1,), 9),
        Block("x", "float64", (1,), -8),
    ],
)
def test_a_header_that_lies_about_its_arrays_is_refused(block: Block) -> None:
    header = msgspec.msgpack.encode(Frame("answer", 1, {}, (block,)))
    assert refused(struct.pack("<IQ", len(header), 8) + header + bytes(8))


def test_a_frame_that_is_too_large_is_refused_before_memory_is_taken() -> None:
    tracemalloc.start()
    try:
        assert refused(struct.pack("<IQ", 10, 64 << 20))
        assert refused(struct.pack("<IQ", 10, 1 << 60))
        assert refused(struct.pack("<IQ", 0xFFFFFFFF, 0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_waiting_ends_at_its_deadline() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"\x01")
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            receive(right, 100, begun + 0.2)
        assert time.monotonic() - begun < 20
        with pytest.raises(TimeoutError):
            send(left, Frame("question"), {"x": np.zeros(5_000_000)}, time.monotonic() + 0.2)


def test_objects_do_not_travel() -> None:
    left, right = socket.socketpair()
    with left, right, pytest.raises(ValueError, match="neither numbers nor strings"):
        send(left, Frame("question"), {"x": np.zeros(2, dtype=complex)})
