"""The ids of predictions that were answered by one run of a model: bytes, and written out at once."""

from __future__ import annotations

from binascii import hexlify

from loopwright.core import id_bytes

BYTES, DIGITS = 16, 32
_EACH = DIGITS + 1  # and the comma behind it


class Ids:
    """The ids of the rows of a run, in order. Immutable."""

    __slots__ = ("_text", "raw")

    def __init__(self, raw: bytes) -> None:
        """Args:
        raw: 16 bytes for each.
        """
        self.raw, self._text = raw, hexlify(raw, b",", BYTES)

    @classmethod
    def new(cls, count: int) -> Ids:
        """So many that nothing had before."""
        return cls(id_bytes(count))

    def digits(self, place: int) -> bytes:
        """One of them as it is written."""
        return self._text[_EACH * place : _EACH * place + DIGITS]

    def listed(self, start: int, count: int) -> list[str]:
        """Some of them as they are written."""
        return self._some(start, count).decode().split(",") if count else []

    def json(self, start: int, count: int) -> bytes:
        """Some of them, at least one, as a list in JSON."""
        return b'["%b"]' % self._some(start, count).replace(b",", b'","')

    def _some(self, start: int, count: int) -> bytes:
        return self._text[_EACH * start : _EACH * (start + count) - 1]
