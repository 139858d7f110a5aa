"""Many numbers out of JSON without an object for each: what makes requests with many rows quick.

The list of numbers is cut out of the text and parsed into doubles by simdjson, and the rest, with a number that nobody
else knows in the list's place, is left to who knows the form of the whole. Pure.
"""

from __future__ import annotations

import secrets
from typing import Any

try:
    import simdjson
except ImportError:
    simdjson = None  # type: ignore[assignment]  # a platform without it: many rows take a little longer

SENTINEL = float(secrets.randbits(52))
_QUOTED_NAME = b'"data"'
_IN_PLACE = b"[%d]" % int(SENTINEL)
_FEWEST_BYTES, _MOST_BYTES = 2 << 10, 1 << 20  # fewer are quick anyway; the parser keeps memory for the longest


class Numbers:
    """Cuts lists of numbers out of JSON. Not thread-safe."""

    def __init__(self) -> None:
        self._parse = simdjson.Parser().parse if simdjson is not None else None

    def cut(self, text: bytes) -> tuple[bytes, Any] | None:
        """The text with `[SENTINEL]` in place of the first list behind a `"data"`, and that list's numbers as a buffer
        of doubles.

        Whether the list is the one that is meant, and so was replaced, is for the caller to see. None where it is no
        list of numbers alone, or of a length for which this is not made.
        """
        if self._parse is None or not _FEWEST_BYTES < len(text) <= _MOST_BYTES:
            return None
        start = text.find(b"[", text.find(_QUOTED_NAME) + len(_QUOTED_NAME))
        end = text.find(b"]", start) + 1
        if start < 0 or end <= 0 or text.find(b"[", start + 1, end) >= 0:
            return None
        try:
            parsed: Any = self._parse(text[start:end])
            numbers = parsed.as_buffer(of_type="d")
        except (ValueError, TypeError, RuntimeError):
            return None
        return b"%b%b%b" % (text[:start], _IN_PLACE, text[end:]), numbers
