"""What may be stored: keys, texts, and floats as integers that keep their order.

A point's value is stored as an integer whose order is the order of the floats (IEEE 754 totalOrder, with one NaN above
all). So the value can be part of the primary key on every database: SQLite has no NaN, and a delivery that is repeated
stores nothing twice.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from loopwright.core import Invalid
from loopwright.track.model import Value

MAX_KEY = 250
MAX_TEXT = 10_000
_HEAD = 100
_INT64 = 1 << 63
_NAN = 0x7FF8_0000_0000_0000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIRE: dict[str, Value] = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def to_bits(value: float) -> int:
    """The integer that stands for a float; `a < b` holds for the integers as it does for the floats."""
    if value != value:
        return _NAN
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return int(bits) if bits >= 0 else int(bits) ^ (_INT64 - 1)


def list_of_bits(values: Sequence[float]) -> list[int]:
    """`to_bits` of each value."""
    raw = struct.unpack(f"<{len(values)}q", struct.pack(f"<{len(values)}d", *values))
    return [
        _NAN if value != value else bits if bits >= 0 else bits ^ (_INT64 - 1)
        for value, bits in zip(values, raw, strict=True)
    ]


def from_bits(bits: int) -> float:
    """The float behind an integer of `to_bits`."""
    raw = bits if bits >= 0 else bits ^ (_INT64 - 1)
    return float(struct.unpack("<d", struct.pack("<q", raw))[0])


def to_wire(value: float) -> Value:
    """The form of a value that JSON can hold."""
    return value if math.isfinite(value) else _WIRE[str(value)]


def to_micros(at: datetime) -> int:
    """Unix microseconds, exactly.

    Raises:
        Invalid: the time has no zone.
    """
    if at.tzinfo is None:
        raise Invalid(f"time {at.isoformat()} has no zone", next_step="use an aware time, such as datetime.now(UTC)")
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The time behind Unix microseconds, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def check_key(noun: str, key: str) -> str:
    """`key`, if it may name a metric, param or tag.

    Raises:
        Invalid: it is empty, too long, or holds a control character.
    """
    if isinstance(key, str) and 0 < len(key) <= MAX_KEY and key.isprintable():
        return key
    shown = key if isinstance(key, str) and len(key) <= 60 else f"{str(key)[:60]}…"
    raise Invalid(
        f"{shown!r} cannot name a {noun}", next_step=f"use 1 to {MAX_KEY} characters without control characters"
    )


def check_text(noun: str, key: str, text: str) -> str:
    """`text`, if it may be the value of a param or tag.

    Raises:
        Invalid: it is no text, too long, or holds a NUL character.
    """
    if not isinstance(text, str):
        raise Invalid(f"the {noun} {key!r} is of type {type(text).__name__}", next_step="give its value as text")
    if len(text) > MAX_TEXT:
        raise Invalid(
            f"the {noun} {key!r} has {len(text):,} characters; the limit is {MAX_TEXT:,}",
            next_step="store it with log_artifact",
        )
    if "\x00" in text or not _is_unicode(text):
        raise Invalid(f"the {noun} {key!r} holds characters that are no text", next_step="store it with log_artifact")
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_step(key: str, step: int) -> int:
    """`step`, if it fits 64 bits.

    Raises:
        Invalid: it does not.
    """
    if isinstance(step, int) and -_INT64 <= step < _INT64:
        return step
    raise Invalid(f"step {step!r} of metric {key!r} is not a 64-bit whole number")


def check_value(key: str, value: Value) -> float:
    """A metric's value as a float.

    Raises:
        Invalid: it is no number.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Invalid(f"metric {key!r} has the value {value!r}, which is no number") from None


def head_of(text: str) -> str:
    """The beginning of a text, short enough for an index on every database."""
    return text[:_HEAD]


def is_whole_head(text: str) -> bool:
    """Whether two texts with this head are equal for sure."""
    return len(text) < _HEAD
