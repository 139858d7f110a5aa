"""The ids of predictions that were answered by one run of a model: bytes, written out only for who asks."""

from __future__ import annotations

from binascii import hexlify

import numpy as np

from loopwright.core import id_bytes

BYTES, DIGITS = 16, 32
_QUOTED = DIGITS + 3  # in JSON: two quotes, and the comma behind it
_FEW = 8


class Ids:
    """The ids of the rows of a run, in order. Immutable."""

    __slots__ = ("_digits", "_quoted", "raw")

    def __init__(self, raw: bytes) -> None:
        """Args:
        raw: 16 bytes for each.
        """
        self.raw, self._digits = raw, hexlify(raw)
        self._quoted = b""

    @classmethod
    def new(cls, count: int) -> Ids:
        """So many that nothing had before."""
        return cls(id_bytes(count))

    def digits(self, place: int) -> bytes:
        """One of them as it is written."""
        return self._digits[DIGITS * place : DIGITS * (place + 1)]

    def listed(self, start: int, count: int) -> list[str]:
        """Some of them as they are written."""
        text = self._digits[DIGITS * start : DIGITS * (start + count)].decode()
        return [text[at : at + DIGITS] for at in range(0, DIGITS * count, DIGITS)]

    def json(self, start: int, count: int) -> bytes:
        """Some of them, at least one, as a list in JSON; all are written at once when the first are asked for."""
        if not self._quoted:
            self._quoted = self._all_quoted()
        return b"[%b]" % self._quoted[_QUOTED * start : _QUOTED * (start + count) - 1]

    def _all_quoted(self) -> bytes:
        count = len(self.raw) // BYTES
        if count < _FEW:
            return b"".join([b'"%b",' % self.digits(place) for place in range(count)])
        table = np.empty((count, _QUOTED), dtype=np.uint8)
        table[:] = _FRAME
        table[:, 1 : 1 + DIGITS] = np.frombuffer(self._digits, dtype=np.uint8).reshape(count, DIGITS)
        return table.tobytes()


_FRAME = np.frombuffer(b'"%b",' % bytes(DIGITS), dtype=np.uint8)
