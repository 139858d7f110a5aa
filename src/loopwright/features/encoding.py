"""How online rows are kept: one text key per entity, and by position when the row was seen and the features' values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.features.timeline import SEEN, TRUE

if TYPE_CHECKING:
    import polars as pl

_json = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(list[Any])


def online_place(project: str, view: str, digest: str) -> str:
    """Where a view's rows are in the online store: each definition has a place of its own."""
    return f"{project}/{view}@{digest[:16]}"


def encode_keys(frame: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    """The online key of each row; rows with a null in a key have one that no entity has."""
    if len(keys) == 1:
        return [_json.encode(value).decode() for value in frame.get_column(keys[0]).to_list()]
    return [_json.encode(row).decode() for row in frame.select(keys).rows()]


def encode_rows(
    rows: pl.DataFrame, keys: Sequence[str], features: Sequence[str]
) -> Mapping[str, tuple[datetime, bytes]]:
    """Rows as the online store takes them."""
    payloads = map(_pack.encode, rows.select([SEEN, *features]).rows())
    times: list[datetime] = rows.get_column(TRUE).to_list()
    return dict(zip(encode_keys(rows, keys), zip(times, payloads, strict=True), strict=True))


def decode_payload(payload: bytes) -> list[Any]:
    """The features' values behind one payload, in the order they were encoded in."""
    return _unpack.decode(payload)[1:]


def decode_rows(found: Sequence[tuple[datetime, bytes]], types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Online rows as a frame: TRUE, SEEN, and the features with their types."""
    import polars as pl

    values = [_unpack.decode(payload) for _, payload in found]
    times = pl.Datetime("us", "UTC")
    columns = [
        column_of([moment for moment, _ in found], times).alias(TRUE),
        column_of([row[0] for row in values], times).alias(SEEN),
    ]
    for place, (name, dtype) in enumerate(types.items(), start=1):
        columns.append(column_of([row[place] for row in values], dtype).alias(name))
    return pl.DataFrame(columns)


def column_of(values: list[Any], dtype: pl.DataType) -> pl.Series:
    """Decoded values as a column of the feature's type; what MessagePack has as text is parsed."""
    import polars as pl

    parsers: dict[Any, Callable[[Any], Any]] = {
        pl.Date: date.fromisoformat,
        pl.Time: time.fromisoformat,
        pl.Decimal: Decimal,
        pl.Datetime: _moment,
        pl.Duration: _duration,
    }
    parse = parsers.get(dtype.base_type())
    if parse is not None:
        values = [None if value is None else parse(value) for value in values]
    return pl.Series("", values, dtype=dtype)


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _duration(value: Any) -> timedelta:
    import msgspec

    return value if isinstance(value, timedelta) else msgspec.convert(value, timedelta)
