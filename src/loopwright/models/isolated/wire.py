"""Frames between a server and its worker: two lengths, a msgspec header, then the bytes of the arrays.

Neither side trusts the other's lengths: a frame is bounded before memory is taken for it. Strings travel as MessagePack
(None where one is missing), numbers as they lie in memory. Nothing here is ever unpickled.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MAX_HEADER_BYTES = 4 << 20
MAX_ARRAYS = 4096
_LENGTHS = struct.Struct("<IQ")
_STRINGS = "strings"
_NUMBERS = frozenset({"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))})
_ELEMENTS = _NUMBERS | {"float16", "float32", "float64"}


class BadFrame(Exception):
    """The other side sent what is no frame, or too large a one."""


class Block(msgspec.Struct, frozen=True, array_like=True):
    """One array of a frame: `size` is that of its bytes, which follow the header in the order of the blocks."""

    name: str
    element: str
    shape: tuple[int, ...]
    size: int


class Frame(msgspec.Struct, frozen=True):
    """A message. `number` is the question's, repeated by its answer."""

    kind: str
    number: int = 0
    words: dict[str, Any] = {}
    blocks: tuple[Block, ...] = ()


def send(channel: socket.socket, frame: Frame, arrays: Mapping[str, Array], deadline: float | None = None) -> None:
    """Send a frame with arrays.

    Args:
        deadline: on the monotonic clock; None waits for ever.

    Raises:
        TimeoutError: the other side did not take it in time.
        OSError: the other side is gone.
        ValueError: an array has a type that does not travel.
    """
    blocks, parts = [], []
    for name, array in arrays.items():
        element, data = _packed(name, array)
        blocks.append(Block(name, element, tuple(int(size) for size in array.shape), len(data)))
        parts.append(data)
    header = msgspec.msgpack.encode(msgspec.structs.replace(frame, blocks=tuple(blocks)))
    head = _LENGTHS.pack(len(header), sum(len(data) for data in parts)) + header
    for data in (head, *parts):
        _wait(channel, deadline)
        channel.sendall(data)


def receive(channel: socket.socket, max_bytes: int, deadline: float | None = None) -> tuple[Frame, dict[str, Array]]:
    """The next frame and its arrays.

    Raises:
        TimeoutError: none came in time.
        EOFError: the other side is gone.
        BadFrame: what came is no frame, or holds more than `max_bytes`.
    """
    header_size, size = _LENGTHS.unpack(_exactly(channel, _LENGTHS.size, deadline))
    if header_size > MAX_HEADER_BYTES or size > max_bytes:
        raise BadFrame(f"a frame of {header_size} + {size} bytes; at most {MAX_HEADER_BYTES} + {max_bytes} are taken")
    header = _exactly(channel, header_size, deadline)
    try:
        frame = msgspec.msgpack.decode(header, type=Frame)
    except msgspec.MsgspecError as error:
        raise BadFrame(f"a header that is none: {error}") from None
    if len(frame.blocks) > MAX_ARRAYS or sum(block.size for block in frame.blocks) != size:
        raise BadFrame("a header that does not fit its arrays")
    data, arrays, start = memoryview(_exactly(channel, size, deadline)), {}, 0
    for block in frame.blocks:
        arrays[block.name] = _unpacked(block, data[start : start + block.size])
        start += block.size
    return frame, arrays


def _packed(name: str, array: Array) -> tuple[str, bytes | memoryview]:
    import numpy as np

    if array.dtype.kind in "OUST":
        values = [None if value is None else str(value) for value in array.reshape(-1).tolist()]
        return _STRINGS, msgspec.msgpack.encode(values)
    if array.dtype.name not in _ELEMENTS:
        raise ValueError(f"{name!r} is an array of {array.dtype}, which is neither numbers nor strings")
    whole = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return array.dtype.name, memoryview(whole.reshape(-1).view(np.uint8).data) if whole.size else b""


def _unpacked(block: Block, data: memoryview) -> Array:
    import numpy as np

    if len(block.shape) > 32 or any(size < 0 for size in block.shape):
        raise BadFrame(f"{block.name!r} has the shape {block.shape}")
    count = math.prod(block.shape)
    if block.element == _STRINGS:
        try:
            values = msgspec.msgpack.decode(data, type=list[str | None])
        except msgspec.MsgspecError as error:
            raise BadFrame(f"the strings of {block.name!r} are none: {error}") from None
        if len(values) != count:
            raise BadFrame(f"{block.name!r} has {len(values)} strings for the shape {block.shape}")
        array = np.empty(count, dtype=object)
        array[:] = values
        return array.reshape(block.shape)
    if block.element not in _ELEMENTS or np.dtype(block.element).itemsize * count != len(data):
        raise BadFrame(f"{block.name!r} has {len(data)} bytes for {block.shape} of {block.element}")
    return np.frombuffer(data, dtype=block.element).reshape(block.shape)


def _exactly(channel: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        _wait(channel, deadline)
        count = channel.recv_into(rest)
        if not count:
            raise EOFError("the other side closed the channel")
        rest = rest[count:]
    return data


def _wait(channel: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    channel.settimeout(left)
