"""How online rows are kept: one text key per entity, and the features' values by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.features.timeline import TRUE

if TYPE_CHECKING:
    import polars as pl

_json = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(list[Any])


def encode_keys(frame: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    """The online key of each row; rows with a null in a key have one that no entity has."""
    if len(keys) == 1:
        return [_json.encode(value).decode() for value in frame.get_column(keys[0]).to_list()]
    return [_json.encode(row).decode() for row in frame.select(keys).rows()]


def encode_rows(
    rows: pl.DataFrame, keys: Sequence[str], features: Sequence[str]
) -> Mapping[str, tuple[datetime, bytes]]:
    """Rows as the online store takes them."""
    payloads = map(_pack.encode, rows.select(features).rows())
    times: list[datetime] = rows.get_column(TRUE).to_list()
    return dict(zip(encode_keys(rows, keys), zip(times, payloads, strict=True), strict=True))


def decode_payload(payload: bytes) -> list[Any]:
    """The features' values behind one payload, in the order they were encoded in."""
    return _unpack.decode(payload)
