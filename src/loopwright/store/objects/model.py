"""The words of the object store, and the contract that every implementation keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec


class ObjectStat(msgspec.Struct, frozen=True):
    """What is known of an object without reading it."""

    digest: str
    size_bytes: int


class ObjectAge(msgspec.Struct, frozen=True):
    """An object and when it was put, or put again, the last time: in seconds since 1970 by the store's own clock."""

    digest: str
    size_bytes: int
    put_s: float


class Readable(Protocol):
    """What bytes can be read from until there are none. A file is one; so is a request's body."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end, and only there."""
        ...


class ObjectStore(Protocol):
    """Immutable bytes under their BLAKE3 digest.

    Whole: an object is visible only when all of its bytes are stored; a writer that dies leaves nothing under a digest.
    Durable: when a `put` returns, the object survives the death of every process (a folder: also the loss of power).
    Idempotent: the same content may be put any number of times, by any number of writers at once; it is kept once.
    Thread-safe, and safe for several processes on one store.
    A digest that is not 64 lower-case hex digits is Invalid. A place that does not answer or is full is Unavailable.
    """

    def put_bytes(self, data: bytes) -> str:
        """Keep these bytes; returns their digest."""
        ...

    def put_file(self, path: Path) -> str:
        """Keep a file's bytes; returns their digest.

        Raises:
            NotFound: there is no such file.
            Conflict: the file changed while it was read.
        """
        ...

    def put_stream(self, stream: Readable) -> str:
        """Keep what is left in a stream, in constant memory; returns its digest."""
        ...

    def open(self, digest: str) -> BinaryIO:
        """The object as a stream that can seek; the caller closes it. Its bytes are not verified.

        Raises:
            NotFound: no such object.
        """
        ...

    def get(self, digest: str, *, verify: bool = False) -> bytes:
        """The object's bytes.

        Raises:
            NotFound: no such object.
            Corrupt: `verify` is set and the bytes are not those that were put.
        """
        ...

    def stat(self, digest: str) -> ObjectStat:
        """The object's size.

        Raises:
            NotFound: no such object.
        """
        ...

    def exists(self, digest: str) -> bool:
        """Whether the object is there, whole."""
        ...

    def delete(self, digest: str) -> None:
        """Remove the object; nothing happens if it is not there."""
        ...

    def ages(self) -> Iterator[ObjectAge]:
        """All objects with the time of their last put, in the order of their digests, in constant memory."""
        ...

    def retire(self, digest: str, before_s: float) -> bool:
        """Remove the object unless it was put (again) at or after a time; says whether it is gone.

        A `put` of the same content that runs at the same time leaves the object there, whoever is first, and so does
        the death of this process at any moment: what was not yet removed for good comes back when it is asked for.
        """
        ...

    def iterate(self) -> Iterator[ObjectStat]:
        """All objects in the order of their digests, in constant memory."""
        ...

    def verify(self, digest: str) -> bool:
        """Whether the object's bytes still have its digest, read in constant memory.

        Raises:
            NotFound: no such object.
        """
        ...


class TreeEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a tree. A small file lies in a pack, at an offset; a large one is an object of its own."""

    path: str
    digest: str
    size_bytes: int
    pack: str = ""
    offset: int = 0
    executable: bool = False

    @property
    def holder(self) -> str:
        """The digest of the object that holds the file's bytes."""
        return self.pack or self.digest


class Tree(msgspec.Struct, frozen=True):
    """The files of a folder, by path. Empty folders are not kept."""

    entries: tuple[TreeEntry, ...]

    @property
    def size_bytes(self) -> int:
        """The sum of the files' sizes."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def holders(self) -> frozenset[str]:
        """The digests of the objects that the tree needs."""
        return frozenset(entry.holder for entry in self.entries)

    def entry(self, path: str) -> TreeEntry | None:
        """The file at that path, if there is one."""
        return next((entry for entry in self.entries if entry.path == path), None)
