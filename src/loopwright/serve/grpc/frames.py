"""Frames of HTTP/2 (RFC 9113): their kinds and flags, and the small ones written out. Pure."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">BHBBI")
"""The head of a frame: its length in two parts, its kind, its flags, its stream."""
HEAD_BYTES = 9
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
TABLE_SIZE, PUSH, STREAMS, WINDOW, FRAME_SIZE, LIST_SIZE = 1, 2, 3, 4, 5, 6
"""Settings."""
FIRST_WINDOW = 65_535
MOST_WINDOW = (1 << 31) - 1
LEAST_FRAME, MOST_FRAME = 1 << 14, (1 << 24) - 1


class Trouble(IntEnum):
    """Why a stream or a connection ends."""

    NONE = 0
    PROTOCOL = 1
    INTERNAL = 2
    FLOW_CONTROL = 3
    STREAM_CLOSED = 5
    FRAME_SIZE = 6
    REFUSED = 7
    CANCEL = 8
    COMPRESSION = 9
    TOO_MUCH = 11


class Fault(Exception):
    """The other side has broken a rule, and the connection cannot go on."""

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble, self.text = trouble, text


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """What we take."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """What the other side takes.

    Raises:
        Fault: it is no list of settings, or a value is out of its range.
    """
    if len(payload) % 6:
        raise Fault(Trouble.FRAME_SIZE, "settings of an odd length")
    found = list(struct.iter_unpack(">HI", payload))
    for key, value in found:
        if key == WINDOW and value > MOST_WINDOW:
            raise Fault(Trouble.FLOW_CONTROL, "a window beyond 2^31")
        if key == FRAME_SIZE and not LEAST_FRAME <= value <= MOST_FRAME:
            raise Fault(Trouble.PROTOCOL, "a frame size out of range")
    return found


def window_update(stream: int, size: int) -> bytes:
    """More may be sent to us."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def reset(stream: int, trouble: Trouble) -> bytes:
    """A stream ends before its time."""
    return frame(RST_STREAM, 0, stream, int(trouble).to_bytes(4, "big"))


def go_away(last: int, trouble: Trouble = Trouble.NONE, text: str = "") -> bytes:
    """No streams behind `last` are taken."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, trouble) + text.encode()[:256])


def without_padding(payload: bytes, flags: int, *, priority: bool = False) -> bytes:
    """What a frame holds beside its padding and, in HEADERS, its priority.

    Raises:
        Fault: the padding is longer than the frame.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        start, end = 1, end - (payload[0] if payload else 1)
    if priority and flags & WITH_PRIORITY:
        start += 5
    if start > end:
        raise Fault(Trouble.PROTOCOL, "more padding than the frame holds")
    return payload[start:end]
