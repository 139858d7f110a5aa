"""An ONNX graph read by hand, as far as an ensemble of trees needs it: NumPy alone, so that serving need not load onnx.

Protobuf is tagged fields. The long lists of a tree operator, a value per node, are decoded as whole arrays. Whatever
is not as expected raises `Unreadable`; nothing here trusts a length or a number that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MODES = ("LEAF", "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOATS, _INTS, _STRINGS = 7, 8, 9  # fields of AttributeProto that repeat
_END = {_FLOATS: b"\xa0\x01\x06", _INTS: b"\xa0\x01\x07", _STRINGS: b"\xa0\x01\x08"}  # its `type`, which comes last
_INT64, _STRING = 7, 8  # of TensorProto.DataType


class Unreadable(Exception):
    """A graph is written in a way that this reader does not know."""


@dataclass
class Node:
    """An operator. Attributes are ints, floats, bytes, or an array of a kind; that of modes holds indices of MODES."""

    operator: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Operators by the tensors that they make, and constants by name."""

    makers: dict[str, Node] = field(default_factory=dict)
    constants: dict[str, Array | list[str]] = field(default_factory=dict)


def read_graph(data: bytes) -> Graph:
    """The graph of a ModelProto.

    Raises:
        Unreadable: it is damaged, or has parts that are not known here.
    """
    found, graphs = Graph(), 0
    for number, value in _fields(memoryview(data)):
        if number == 7:
            graphs += 1
            _read_into(found, _nested(value))
        elif number not in (1, 2, 3, 4, 5, 6, 8, 14):  # e.g. functions, which an operator may be the name of
            raise Unreadable(f"a model with field {number}")
    if graphs != 1:
        raise Unreadable(f"{graphs} graphs")
    return found


def _read_into(graph: Graph, data: memoryview) -> None:
    for number, value in _fields(data):
        if number == 1:
            node = read_node(_nested(value))
            graph.makers.update(dict.fromkeys(node.outputs, node))
        elif number == 5:
            name, constant = _constant(_nested(value))
            if constant is not None:
                graph.constants[name] = constant
        elif number not in (2, 10, 11, 12, 13):
            raise Unreadable(f"a graph with field {number}")


def read_node(data: memoryview) -> Node:
    """A NodeProto.

    Raises:
        Unreadable: as `read_graph`.
    """
    node = Node()
    for number, value in _fields(data):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node.operator = _text(value)
        elif number == 5:
            name, attribute = _attribute(_nested(value))
            node.attributes[name] = attribute
        elif number == 7:
            node.domain = _text(value)
    return node


def _attribute(data: memoryview) -> tuple[str, Any]:
    name, at = "", 0
    found: Any = None
    while at < len(data):
        start = at
        number, value, at = _field(data, at)
        if number in _END:
            return name, _LISTS[number](bytes(data[start:]))
        if number == 1:
            name = _text(value)
        elif number in (2, 3, 4):
            found = bytes(value) if isinstance(value, memoryview) else value
        elif number == 5:
            found = "tensor"
    return name, found


def _floats(data: bytes) -> Array:
    import numpy as np

    records = np.frombuffer(_without_end(data, _FLOATS, 5), dtype=np.dtype([("tag", "u1"), ("value", "<f4")]))
    if (records["tag"] != (_FLOATS << 3 | _FIXED32)).any():
        raise Unreadable("a list of floats")
    return records["value"].astype(np.float32)


def _ints(data: bytes) -> Array:
    """Tags and values in turn, each a number of seven bits a byte, the last byte without its highest bit."""
    import numpy as np

    stream = np.frombuffer(_without_end(data, _INTS), dtype=np.uint8)
    ends = np.flatnonzero(stream < 0x80)
    if len(ends) % 2 or not len(ends) or ends[-1] != len(stream) - 1:
        raise Unreadable("a list of integers")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 9:
        raise Unreadable("an integer of more than ten bytes")
    places = np.arange(len(stream)) - np.repeat(starts, ends - starts + 1)
    parts = (stream & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    numbers = np.add.reduceat(parts, starts)
    if (numbers[::2] != _INTS << 3).any():
        raise Unreadable("a list of integers")
    return numbers[1::2].astype(np.int64)


def _strings(data: bytes) -> Array | list[str]:
    """The modes of nodes as bytes, indices of MODES; other strings as a list."""
    import numpy as np

    body = _without_end(data, _STRINGS)
    coded = body
    for place, mode in enumerate(MODES):
        coded = coded.replace(bytes([_STRINGS << 3 | _BYTES, len(mode)]) + mode.encode(), bytes([place]))
    if coded and max(coded) < len(MODES):
        return np.frombuffer(coded, dtype=np.uint8)
    return [_text(value) for _, value in _fields(memoryview(body))]


_LISTS = {_FLOATS: _floats, _INTS: _ints, _STRINGS: _strings}


def _without_end(data: bytes, kind: int, size: int = 1) -> bytes:
    if not data.endswith(_END[kind]) or (len(data) - 3) % size:
        raise Unreadable("an attribute whose list does not come last")
    return data[:-3]


def _constant(data: memoryview) -> tuple[str, Array | list[str] | None]:
    """The name and values of a TensorProto of int64 or strings of at most one dimension; None for any other."""
    import numpy as np

    dimensions: list[int] = []
    name, kind, raw, texts = "", 0, b"", []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            dimensions.append(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 6:
            texts.append(_text(value))
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = bytes(_nested(value))
        elif number != 12:
            return name, None
    count = dimensions[0] if dimensions else 1
    if len(dimensions) > 1:
        return name, None
    if kind == _STRING and len(texts) == count:
        return name, texts
    if kind == _INT64 and len(raw) == 8 * count:
        return name, np.frombuffer(raw, dtype="<i8").reshape(dimensions)
    return name, None


def _fields(data: memoryview) -> Iterator[tuple[int, int | float | memoryview]]:
    at = 0
    while at < len(data):
        number, value, at = _field(data, at)
        yield number, value


def read_text(data: memoryview, wanted: int) -> str:
    """The text in a field of a message; empty where there is none.

    Raises:
        Unreadable: as `read_graph`.
    """
    return next((_text(value) for number, value in _fields(data) if number == wanted), "")


def raw_fields(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """The fields of a message: the number of each, its bytes with what tags them, and its value where that has bytes.

    Raises:
        Unreadable: as `read_graph`.
    """
    at = 0
    while at < len(data):
        start = at
        number, value, at = _field(data, at)
        yield number, data[start:at], value if isinstance(value, memoryview) else data[at:at]


def _field(data: memoryview, at: int) -> tuple[int, int | float | memoryview, int]:
    """The number of the field at a place, its value, and the place behind it."""
    import struct

    tag, at = _varint(data, at)
    number, wire = tag >> 3, tag & 7
    if wire == _VARINT:
        value, at = _varint(data, at)
        return number, value - (1 << 64) if value >> 63 else value, at
    if wire == _BYTES:
        size, at = _varint(data, at)
    else:
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire, len(data) + 1)
    if size > len(data) - at:
        raise Unreadable("a field reaches beyond the end")
    found = data[at : at + size]
    if wire == _FIXED32:
        return number, struct.unpack("<f", found)[0], at + size
    return number, found, at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    found = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return found, at
    raise Unreadable("a number without an end")


def _nested(value: int | float | memoryview) -> memoryview:
    if not isinstance(value, memoryview):
        raise Unreadable("a number where a message should be")
    return value


def _text(value: int | float | memoryview) -> str:
    try:
        return bytes(_nested(value)).decode()
    except UnicodeDecodeError:
        raise Unreadable("text that is not UTF-8") from None
