"""The ids of predictions that were answered by one run of a model: bytes, and written out at once."""

from __future__ import annotations

from binascii import hexlify
from contextlib import suppress

from loopwright.core import id_seeds, ids_from, wants_compiled

BYTES, DIGITS = 16, 32
_EACH = DIGITS + 3  # with quotes, and the comma behind it


def _made_plainly(first: int, random: bytes) -> tuple[bytes, bytes]:
    raw = ids_from(first, random)
    return raw, b'["%b"]' % hexlify(raw, b",", BYTES).replace(b",", b'","') if raw else b"[]"


_made = _made_plainly
if wants_compiled():
    with suppress(ImportError):  # it was not built
        from loopwright.serve._ids import made as _made


class Ids:
    """The ids of the rows of a run, in order. Immutable."""

    __slots__ = ("_text", "raw")

    def __init__(self, first: int, random: bytes) -> None:
        """Args:
        first, random: what `id_seeds` gives.
        """
        self.raw, self._text = _made(first, random)  # 16 bytes for each; a list in JSON

    @classmethod
    def new(cls, count: int) -> Ids:
        """So many that nothing had before."""
        return cls(*id_seeds(count))

    def digits(self, place: int) -> bytes:
        """One of them as it is written."""
        start = 2 + _EACH * place
        return self._text[start : start + DIGITS]

    def listed(self, start: int, count: int) -> list[str]:
        """Some of them as they are written."""
        return [self.digits(place).decode() for place in range(start, start + count)]

    def json(self, start: int, count: int) -> bytes:
        """Some of them, at least one, as a list in JSON."""
        end = _EACH * (start + count)
        return self._text if end + 1 == len(self._text) and not start else b"[%b]" % self._text[1 + _EACH * start : end]
