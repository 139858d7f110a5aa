"""Objects behind a URL: S3, and every other store that fsspec speaks to."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from loopwright.core import Conflict, Invalid, NotFound, digest_bytes, digest_stream, new_id
from loopwright.store.objects.faults import check_digest, flipped, no_object, spoken
from loopwright.store.objects.filesystems import open_filesystem, puts_are_conditional, scheme_of, writes_are_atomic
from loopwright.store.objects.model import ObjectAge, ObjectStat, Readable

_CHUNK_BYTES = 8 << 20
_WHOLE_BYTES = 32 << 20
_TEMPORARY = "tmp"
_YOUNG_S = 1800.0
_SHARD = re.compile("[0-9a-f]{2}")


class RemoteStore:
    """The object store of a grown workspace.

    On S3 a write is a conditional put (`If-None-Match: *`), in parts where it is large: it appears whole, and never
    replaces an object. On stores whose files appear while they grow (SFTP and its like) it is written under another
    name and moved.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self._files, self._root = open_filesystem(url, options)
        scheme = scheme_of(url)
        self._atomic, self._conditional = writes_are_atomic(scheme), puts_are_conditional(scheme)

    def __repr__(self) -> str:
        return f"RemoteStore({self.url!r})"

    def put_bytes(self, data: bytes) -> str:
        digest = digest_bytes(data)
        if not self._settled(digest, len(data)):
            with spoken(self.url):
                self._put_whole(digest, data)
        return digest

    def put_file(self, path: Path) -> str:
        try:
            with path.open("rb") as stream:
                digest, size = digest_stream(stream)
                if self._settled(digest, size):
                    return digest
                stream.seek(0)
                if size <= _WHOLE_BYTES:
                    return self.put_bytes(stream.read())
                with spoken(self.url):
                    self._put_parts(digest, stream, str(path))
                return digest
        except FileNotFoundError:
            raise NotFound(f"there is no file {path}") from None
        except IsADirectoryError:
            raise Invalid(f"{path} is a folder", next_step="use put_tree") from None

    def put_stream(self, stream: Readable) -> str:
        with tempfile.TemporaryDirectory(prefix="loopwright-") as folder:
            path = Path(folder) / "object"
            with spoken(folder), path.open("wb") as target:
                while chunk := stream.read(_CHUNK_BYTES):
                    target.write(chunk)
            return self.put_file(path)

    def open(self, digest: str) -> BinaryIO:
        key = self._key(digest)
        with spoken(self.url):
            try:
                return cast(BinaryIO, self._files.open(key, "rb"))
            except FileNotFoundError:
                raise no_object(digest) from None

    def get(self, digest: str, *, verify: bool = False) -> bytes:
        key = self._key(digest)
        with spoken(self.url):
            try:
                data = bytes(self._files.cat_file(key))
            except FileNotFoundError:
                raise no_object(digest) from None
        if verify and (found := digest_bytes(data)) != digest:
            raise flipped(digest, found)
        return data

    def stat(self, digest: str) -> ObjectStat:
        size = self._held(digest)
        if size is None:
            raise no_object(digest)
        return ObjectStat(digest, size)

    def exists(self, digest: str) -> bool:
        return self._held(digest) is not None

    def delete(self, digest: str) -> None:
        if self._held(digest) is None:
            return
        with spoken(self.url):
            try:
                self._files.rm_file(self._key(digest))
            except FileNotFoundError:
                return

    def iterate(self) -> Iterator[ObjectStat]:
        for shard in self._list(self._root, "directory"):
            if _SHARD.fullmatch(shard["name"]) is None:
                continue
            for found in self._list(f"{self._root}/{shard['name']}", "file"):
                yield ObjectStat(f"{shard['name']}{found['name']}", int(found["size"]))

    def ages(self) -> Iterator[ObjectAge]:
        for shard in self._list(self._root, "directory"):
            if _SHARD.fullmatch(shard["name"]) is None:
                continue
            for found in self._list(f"{self._root}/{shard['name']}", "file"):
                yield ObjectAge(f"{shard['name']}{found['name']}", int(found["size"]), _put_s(found))

    def retire(self, digest: str, before_s: float) -> bool:
        key = self._key(digest)
        with spoken(self.url):
            try:
                self._files.invalidate_cache(key.rsplit("/", 1)[0])
                if _put_s(self._files.info(key)) >= before_s:
                    return False
                self._files.rm_file(key)
            except FileNotFoundError:
                return True
            return True

    def _settled(self, digest: str, size: int) -> bool:
        """Whether the object is there, and counts as put lately: one that is old might be about to be retired."""
        key = self._key(digest)
        with spoken(self.url):
            try:
                found = self._files.info(key)
                if int(found["size"]) != size:
                    return False
                return time.time() - _put_s(found) < _YOUNG_S or self._renewed(key)
            except FileNotFoundError:
                return False

    def _renewed(self, key: str) -> bool:
        """Make an old object count as put now without sending its bytes, where the store can: S3 copies it onto
        itself. Elsewhere it is put again."""
        copy = getattr(self._files, "call_s3", None)
        if copy is None:
            return False
        bucket, _, name = key.partition("/")
        copy("copy_object", Bucket=bucket, Key=name, CopySource=f"{bucket}/{name}", MetadataDirective="REPLACE")
        return True

    def verify(self, digest: str) -> bool:
        with self.open(digest) as stream, spoken(self.url):
            return digest_stream(stream)[0] == digest

    def _key(self, digest: str) -> str:
        check_digest(digest)
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    def _held(self, digest: str) -> int | None:
        """The size of the object that is stored under this digest, if there is one."""
        key = self._key(digest)
        with spoken(self.url):
            try:
                return int(self._files.info(key)["size"])
            except FileNotFoundError:
                return None

    def _list(self, folder: str, kind: str) -> list[dict[str, Any]]:
        """What of that kind lies in a folder, by name (the last part of its path)."""
        with spoken(self.url):
            try:
                found = self._files.ls(folder, detail=True)
            except FileNotFoundError:
                return []
        named = ({**info, "name": _last_part(str(info["name"]))} for info in found if info["type"] == kind)
        return sorted(named, key=lambda info: str(info["name"]))

    def _put_whole(self, digest: str, data: bytes) -> None:
        key = self._key(digest)
        if self._conditional:
            with suppress(FileExistsError):
                self._files.pipe_file(key, data, mode="create")
        elif self._atomic:
            self._files.pipe_file(key, data)
        else:
            with self._moved_to(key) as target:
                target.write(data)

    def _put_parts(self, digest: str, stream: BinaryIO, name: str) -> None:
        key = self._key(digest)
        with suppress(FileExistsError), self._committed(key) if self._atomic else self._moved_to(key) as target:
            _copy(stream, target, digest, name)

    @contextmanager
    def _committed(self, key: str) -> Iterator[Any]:
        """A file that appears under `key` when the context ends well, and leaves nothing when it does not."""
        target = self._files.open(key, "xb" if self._conditional else "wb", autocommit=False)
        try:
            yield target
            target.close()
        except BaseException:
            target.discard()
            raise
        target.commit()

    @contextmanager
    def _moved_to(self, key: str) -> Iterator[Any]:
        """The same for a store whose files appear while they are written: another name first, then a move."""
        folder = f"{self._root}/{_TEMPORARY}"
        temporary = f"{folder}/{new_id()}"
        self._files.makedirs(folder, exist_ok=True)
        self._files.makedirs(key.rsplit("/", 1)[0], exist_ok=True)
        try:
            with self._files.open(temporary, "wb") as target:
                yield target
            self._files.mv(temporary, key)
        except BaseException:
            with suppress(FileNotFoundError):
                self._files.rm_file(temporary)
            raise


def _put_s(info: Mapping[str, Any]) -> float:
    """When a file was written, in seconds since 1970; a store that does not say is taken to say now."""
    for name in ("LastModified", "mtime", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()


def _last_part(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _copy(stream: BinaryIO, target: Any, digest: str, name: str) -> None:
    from blake3 import blake3

    hasher = blake3()
    while chunk := stream.read(_CHUNK_BYTES):
        hasher.update(chunk)
        target.write(chunk)
    if hasher.hexdigest() != digest:
        raise Conflict(f"the file {name} changed while it was read", next_step="try again when it is still")
