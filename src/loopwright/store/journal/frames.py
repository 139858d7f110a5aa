"""The bytes of a journal: pure functions.

A segment is an 8-byte signature and then frames: length, CRC-32 of the payload, CRC-32 of these two (4 bytes each,
little-endian), payload. The header has a checksum of its own so that a damaged length is told from a torn tail.
A closed segment ends in a frame without payload whose length is 0xFFFFFFFF.
"""

from __future__ import annotations

import struct
from enum import Enum
from zlib import crc32

SIGNATURE = b"LWJRNL1\n"
HEADER_BYTES = 12
MAX_PAYLOAD_BYTES = 1 << 30
_HEADER = struct.Struct("<III")
_pack_two, _pack_one = struct.Struct("<II").pack, struct.Struct("<I").pack
_END_LENGTH = 0xFFFFFFFF


class Fault(Enum):
    """Why the bytes at a place are no whole frame."""

    INCOMPLETE = "incomplete"  # more bytes are needed: a tail that is torn, or being written
    HEADER = "header"  # the header fails its checksum
    PAYLOAD = "payload"  # the payload fails its checksum
    END = "end"  # the segment was closed here


def frame(payload: bytes) -> bytes:
    """The frame around a payload."""
    return _header(len(payload), crc32(payload)) + payload


def end_frame() -> bytes:
    """What closes a segment."""
    return _header(_END_LENGTH, 0)


def _header(length: int, check: int) -> bytes:
    head = _pack_two(length, check)
    return head + _pack_one(crc32(head))


def frame_at(buffer: bytes, offset: int) -> tuple[bytes, int] | tuple[Fault, int]:
    """The payload of the frame at `offset` and the offset behind it; or what is wrong and the size of the frame.

    The size that comes with a fault is what the header claims, or the header's own size where it cannot be trusted.
    """
    start = offset + HEADER_BYTES
    if len(buffer) < start:
        return Fault.INCOMPLETE, HEADER_BYTES
    length, check, header_check = _HEADER.unpack_from(buffer, offset)
    if crc32(buffer[offset : offset + 8]) != header_check:
        return Fault.HEADER, HEADER_BYTES
    if length == _END_LENGTH:
        return Fault.END, HEADER_BYTES
    end = start + length
    if len(buffer) < end:
        return Fault.INCOMPLETE, HEADER_BYTES + length
    payload = buffer[start:end]
    if crc32(payload) != check:
        return Fault.PAYLOAD, HEADER_BYTES + length
    return payload, end
