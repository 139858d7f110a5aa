"""Canonical JSON: the same value always gives the same bytes, so that it can be hashed and compared."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_encoder = msgspec.json.Encoder(order="sorted")


def encode(value: Any) -> bytes:
    """The canonical JSON of a value: keys sorted, no white space, times as RFC 3339, structs as objects.

    Raises:
        TypeError: the value holds something that JSON cannot.
    """
    return _encoder.encode(value)


def decode(data: bytes | str, kind: type[T] | Any = Any) -> Any:
    """The value behind JSON, checked against `kind`.

    Raises:
        msgspec.ValidationError: the JSON does not fit `kind`.
        msgspec.DecodeError: it is not JSON.
    """
    return msgspec.json.decode(data, type=kind)
