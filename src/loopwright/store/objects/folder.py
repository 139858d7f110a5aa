"""Objects in a local folder: `ab/cdef…`, each written whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from loopwright.core import Invalid, NotFound, digest_bytes, digest_stream, new_id
from loopwright.store.objects.faults import check_digest, flipped, no_object, spoken
from loopwright.store.objects.model import ObjectAge, ObjectStat, Readable

_CHUNK_BYTES = 1 << 20
_TEMPORARY = "tmp"
_RETIRED = "retired"
_STALE_S = 24 * 3600.0


class FolderStore:
    """The object store of an embedded workspace.

    A write goes to a temporary file in the same file system, is forced to the disk, and is renamed to its digest;
    then the folder is forced to the disk too. Temporary files that a dead writer left are removed
    by the first write of a store that is opened a day later. An object that is being retired lies in a folder of its
    own for a moment: a put or a read of it takes it back.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._temporary = self.root / _TEMPORARY
        self._retired = self.root / _RETIRED
        self._swept = False

    def __repr__(self) -> str:
        return f"FolderStore({str(self.root)!r})"

    def put_bytes(self, data: bytes) -> str:
        digest = digest_bytes(data)
        with spoken(str(self.root)):
            if not self._settled(digest, len(data)):
                self._write(_Once(data))
        return digest

    def put_file(self, path: Path) -> str:
        try:
            with path.open("rb") as stream:
                digest, size = digest_stream(stream)
                with spoken(str(self.root)):
                    if self._settled(digest, size):
                        return digest
                    stream.seek(0)
                    return self._write(stream)
        except FileNotFoundError:
            raise NotFound(f"there is no file {path}") from None
        except IsADirectoryError:
            raise Invalid(f"{path} is a folder", next_step="use put_tree") from None

    def put_stream(self, stream: Readable) -> str:
        with spoken(str(self.root)):
            return self._write(stream)

    def open(self, digest: str) -> BinaryIO:
        path = self._path(digest)
        with spoken(str(self.root)):
            try:
                return path.open("rb")
            except FileNotFoundError:
                if self._took_back(digest):
                    return path.open("rb")
                raise no_object(digest) from None

    def get(self, digest: str, *, verify: bool = False) -> bytes:
        with self.open(digest) as stream, spoken(str(self.root)):
            data = stream.read()
        if verify and (found := digest_bytes(data)) != digest:
            raise flipped(digest, found)
        return data

    def stat(self, digest: str) -> ObjectStat:
        path = self._path(digest)
        with spoken(str(self.root)):
            try:
                return ObjectStat(digest, path.stat().st_size)
            except FileNotFoundError:
                if self._took_back(digest):
                    return ObjectStat(digest, path.stat().st_size)
                raise no_object(digest) from None

    def exists(self, digest: str) -> bool:
        return self._path(digest).is_file() or self._took_back(digest)

    def delete(self, digest: str) -> None:
        path = self._path(digest)
        with spoken(str(self.root)):
            path.unlink(missing_ok=True)

    def iterate(self) -> Iterator[ObjectStat]:
        for shard in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(shard.iterdir()):
                yield ObjectStat(shard.name + path.name, path.stat().st_size)

    def ages(self) -> Iterator[ObjectAge]:
        for path in sorted(self._retired.glob("*")):  # left by a process that was killed while it retired them
            self._took_back(path.name)
        for shard in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(shard.iterdir()):
                found = path.stat()
                yield ObjectAge(shard.name + path.name, found.st_size, found.st_mtime)

    def retire(self, digest: str, before_s: float) -> bool:
        path, aside = self._path(digest), self._retired / digest
        with spoken(str(self.root)):
            self._retired.mkdir(exist_ok=True)
            try:
                if path.stat().st_mtime >= before_s:
                    return False
                # Out of every writer's reach first: from here on a put finds it missing and takes it back or writes it.
                path.replace(aside)
                if aside.stat().st_mtime >= before_s:
                    self._took_back(digest)
                    return False
                aside.unlink()
            except FileNotFoundError:
                return not self.exists(digest)
            return True

    def _took_back(self, digest: str) -> bool:
        """Take an object back that is being retired; one rename, so that only one of several does it."""
        path = self._path(digest)
        try:
            (self._retired / digest).replace(path)
        except FileNotFoundError:
            return False
        _sync_folder(path.parent)
        return True

    def verify(self, digest: str) -> bool:
        with self.open(digest) as stream, spoken(str(self.root)):
            return digest_stream(stream)[0] == digest

    def sweep(self, older_than_s: float = _STALE_S) -> int:
        """Remove temporary files that dead writers left; returns how many."""
        removed = 0
        before = time.time() - older_than_s
        for path in self._temporary.glob("*"):
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed

    def _path(self, digest: str) -> Path:
        check_digest(digest)
        return self.root / digest[:2] / digest[2:]

    def _settled(self, digest: str, size: int) -> bool:
        """Whether the object is there; if so its name is on the disk when this returns, whoever wrote it, and it
        counts as put now."""
        path = self._path(digest)
        while True:
            try:
                if path.stat().st_size != size:
                    return False
                os.utime(path)
            except FileNotFoundError:
                # It may be retired once more before it counts as put now; then it is taken back once more.
                if not self._took_back(digest):
                    return False
            else:
                _sync_folder(path.parent)
                return True

    def _write(self, source: Readable) -> str:
        from blake3 import blake3

        self._temporary.mkdir(parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            self.sweep()
        temporary = self._temporary / new_id()
        hasher = blake3()
        try:
            with temporary.open("xb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            return self._publish(temporary, str(hasher.hexdigest()))
        finally:
            temporary.unlink(missing_ok=True)

    def _publish(self, temporary: Path, digest: str) -> str:
        path = self._path(digest)
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            _sync_folder(self.root)
        temporary.chmod(0o444)
        temporary.replace(path)
        _sync_folder(path.parent)
        return digest


class _Once:
    """Bytes as a source that is read once, without copying them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, _size: int, /) -> bytes:
        data, self._data = self._data, b""
        return data


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
