"""Digests for proof: BLAKE3, 64 lower-case hex digits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO

from loopwright.core.canonical import encode

_PATTERN = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


def is_digest(text: str) -> bool:
    """Whether `text` has the form of a digest."""
    return _PATTERN.fullmatch(text) is not None


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """The digest of bytes in memory."""
    from blake3 import blake3

    return str(blake3(data).hexdigest())


def digest_value(value: Any) -> str:
    """The digest of a value that JSON can hold, independent of the order of keys."""
    return digest_bytes(encode(value))


def digest_stream(stream: BinaryIO) -> tuple[str, int]:
    """The digest and the size in bytes of what is left in a stream, read in chunks."""
    from blake3 import blake3

    hasher, size = blake3(), 0
    while chunk := stream.read(_CHUNK_BYTES):
        hasher.update(chunk)
        size += len(chunk)
    return str(hasher.hexdigest()), size


def digest_file(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    from blake3 import blake3

    return str(blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest())
