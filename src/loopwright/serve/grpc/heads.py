"""Heads of calls: HPACK (RFC 7541) read by the library, and remembered; what we send is literal, and needs no state."""

from __future__ import annotations

from typing import Any

from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from loopwright.serve.codes import Code, timeout_ns

MOST_BYTES = 16 << 10  # of a head on the wire
MOST_LIST_BYTES = 64 << 10  # of its fields
_MOST_HEADS = 16  # of a connection, where one or two do for nearly all its calls
_MOST_REMEMBERED = 2048
_FIRST_SIZE_UPDATE, _LAST_SIZE_UPDATE = 0x20, 0x3F
# Literals that no table remembers; numbers are those of HPACK's static table.
_STATUS_OK = b"\x88"
_GRPC = b"\x0f\x10\x10application/grpc"
START = _STATUS_OK + _GRPC
"""The head of an answer."""
END_OK = b"\x00\x0bgrpc-status\x010"
"""The trailers of a call that went well."""
_BAD = {400: b"\x8c", 404: b"\x8d"}
_SAFE = frozenset(range(0x20, 0x7F)) - {0x25}


class Head:
    """The head of a call. Many calls may share it: nothing in it is changed, but for `memo`.

    Attributes:
        headers: by name; of one that is there more than once, the last value.
        timeout_ns: how long the caller waits; 0 for ever.
        memo: the server's: what it found out about calls with this head.
    """

    __slots__ = ("headers", "memo", "path", "timeout_ns")

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        self.headers = dict(fields)
        self.path = self.headers.get(b":path", b"")
        self.timeout_ns = timeout_ns(self.headers.get(b"grpc-timeout", b""))
        self.memo: Any = None


class _Table(HeaderTable):
    """Tells when it changes."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


class HeadReader:
    """Reads the heads of one connection, in the order of their arrival.

    Nearly all calls on a connection have a head of the same bytes, which mean the same as long as the table of the
    connection has not changed.
    """

    def __init__(self) -> None:
        self._decoder = Decoder(MOST_LIST_BYTES)
        self._decoder.header_table = self._table = _Table()
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """The head in a block.

        Raises:
            HPACKError: it is damaged or too long; the connection cannot go on.
        """
        head = self._known.get(block)
        return head if head is not None else self._read(block)

    def _read(self, block: bytes) -> Head:
        before = self._table.changes
        try:
            fields: list[Any] = list(self._decoder.decode(block, raw=True))
        except (IndexError, ValueError) as error:
            raise HPACKError(str(error)) from None
        head = Head(fields)
        resized = bool(block) and _FIRST_SIZE_UPDATE <= block[0] <= _LAST_SIZE_UPDATE
        if self._table.changes != before or resized or len(self._known) >= _MOST_HEADS:
            self._known.clear()
        if self._table.changes == before and not resized and len(block) <= _MOST_REMEMBERED:
            self._known[block] = head
        return head


def field(name: bytes, value: bytes) -> bytes:
    """A field of a head, written out."""
    return b"\0" + _number(len(name)) + name + _number(len(value)) + value


def trailers(code: Code, text: str, more: bytes = b"") -> bytes:
    """The trailers of a call.

    Args:
        more: further fields, as `field` gives them.
    """
    if code is Code.OK:
        return END_OK + more
    message = field(b"grpc-message", _escaped(text)) if text else b""
    return field(b"grpc-status", str(int(code)).encode()) + message + more


def refusal(status: int) -> bytes:
    """The head of an answer to what is no call of gRPC."""
    return _BAD.get(status) or b"\x08" + _number(3) + str(status).encode()


def _number(value: int) -> bytes:
    """The length of a string, not compressed: a prefix of seven bits."""
    if value < 127:
        return bytes((value,))
    found, value = bytearray(b"\x7f"), value - 127
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _escaped(text: str) -> bytes:
    """As `grpc-message` has it: percent signs before all but printable ASCII; cut, so that it fits any client."""
    raw = text.encode("utf-8", "replace")[:2048]
    return b"".join(bytes((byte,)) if byte in _SAFE else b"%%%02X" % byte for byte in raw)
