"""Compressed bodies: gzip and deflate, bounded. Pure."""

from __future__ import annotations

import zlib

from loopwright.core import Invalid
from loopwright.serve.codes import TooLarge

_EITHER = 32 + zlib.MAX_WBITS  # zlib's own word for: gzip or zlib, as the first bytes say


def decoded(body: bytes, encoding: bytes, most_bytes: int) -> bytes:
    """A body without the encoding that its header names.

    Raises:
        Invalid: the encoding is unknown, or the body is damaged.
        TooLarge: it has more than `most_bytes` bytes in the end.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip", b"deflate"):
        raise Invalid(f"the content encoding {name.decode('latin-1')[:40]!r} is not known here", next_step="use gzip")
    stream = zlib.decompressobj(_EITHER)
    try:
        found = stream.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise Invalid(f"the body is not {name.decode()}: {error}") from None
    if len(found) > most_bytes:
        raise TooLarge(f"the body has more than {most_bytes} bytes when it is unpacked")
    if not stream.eof:
        raise Invalid(f"the body ends before its {name.decode()} stream does")
    if stream.unused_data:
        raise Invalid(f"the body goes on behind its {name.decode()} stream", next_step="send one stream")
    return found
