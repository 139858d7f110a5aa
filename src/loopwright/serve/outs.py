"""The models that somebody took out by name: in this process, or in all that share an address."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from loopwright.core import Unavailable


class Outs:
    """Names. With a file, all processes that were given it agree on them within a moment."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._names: set[str] = set()
        self._stamp: tuple[int, int] | None = None
        self.changed()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Take a name out.

        Raises:
            Unavailable: the other processes cannot be told.
        """
        self.changed()
        self._names.add(name)
        self._write()

    def discard(self, name: str) -> None:
        """Put a name back. Raises as `add` does."""
        self.changed()
        if name in self._names:
            self._names.discard(name)
            self._write()

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all others."""
        kept = self._names & set(names)
        if kept != self._names:
            self._names = kept
            self._write()

    def changed(self) -> bool:
        """Read the file again, if another process has written it; whether that was so."""
        if self._file is None:
            return False
        stamp = _stamp(self._file)
        if stamp is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        self._names = set(msgspec.json.decode(self._file.read_bytes(), type=list[str]))
        return True

    def _write(self) -> None:
        if self._file is None:
            return
        fresh = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            fresh.write_bytes(msgspec.json.encode(sorted(self._names)))
            fresh.replace(self._file)
        except OSError as error:
            raise Unavailable(f"the other processes cannot be told: {error.strerror or error}") from None
        self._stamp = _stamp(self._file)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino
