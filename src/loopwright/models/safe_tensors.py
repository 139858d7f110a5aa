"""safetensors files, checked by their header alone: lengths, types and places fit the file. No weights are read."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Invalid

MAX_HEADER_BYTES = 100_000_000  # the format's own bound
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
_BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64}


def check_safetensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type and shape of each tensor.

    Raises:
        Invalid: the file is no safetensors file, or its header does not fit its bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise Invalid(f"{path.name} is no safetensors file: its header would have {length} of {size} bytes")
        try:
            header: dict[str, Any] = msgspec.json.decode(stream.read(length), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Invalid(f"{path.name} is no safetensors file: {error}") from None
    header.pop("__metadata__", None)
    return {name: _tensor(path, name, item, size - 8 - length) for name, item in header.items()}


def _tensor(path: Path, name: str, item: Any, size: int) -> tuple[str, tuple[int, ...]]:
    try:
        kind, shape = str(item["dtype"]), tuple(int(part) for part in item["shape"])
        start, end = (int(part) for part in item["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise Invalid(f"{path.name}: the tensor {name[:100]!r} is not described") from None
    bits = _BITS.get(kind, 0)
    fits = 0 <= start <= end <= size and all(part >= 0 for part in shape)
    if not fits or (bits and (end - start) * 8 != math.prod(shape) * bits):
        raise Invalid(f"{path.name}: the tensor {name[:100]!r} lies at {start} to {end} for {kind} {list(shape)}")
    return kind, shape
